#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/quant/scheme.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// One scheme for every linear of a table, and what is proven about the choice.
struct Allocation {
  std::vector<Scheme> schemes;  ///< in the order of the table's rows
  double objective = 0;         ///< sum of the chosen errors
  double bound = 0;             ///< proven lower bound on any allocation's objective
  double gap = 0;               ///< relative distance of the two
  std::uint64_t bytes = 0;      ///< of the linears' tensors
  double bits = 0;              ///< 8 * bytes / parameters: average bits per quantized weight
  double seconds = 0;           ///< time for solving
};

/// Budget for all linears of the table together, in bytes, from average bits per weight (bits_budget()).
std::uint64_t budget_bytes(const ErrorTable& table, double bits);

/// MXQ's allocation (Eq. 1 and 3): least sum of errors (Frobenius norms in the paper) with at most `budget`
/// bytes for the linears. `ties` as in tie_groups(). Throws InfeasibleError, in bytes, if the budget is too
/// small, and UsageError, naming the linear, if the table lacks this kind of error.
Allocation allocate_mxq(const ErrorTable& table, std::uint64_t budget, std::string_view ties = "none",
                        const SolveOptions& options = {}, Cost cost = Cost::fnorm);

/// The same within a hard budget for everything that is written: `files` has a module for every row and a
/// form for every cell. The result's `bytes` are still those of the linears. No allocation of lower cost
/// fits, to the byte; with HiGHS there may be one within the reported gap. Throws InfeasibleError with the
/// bytes of the smallest model that can be written; that size is feasible.
Allocation allocate_mxq_written(const ErrorTable& table, std::uint64_t budget, const FileSizes& files,
                                std::string_view ties = "none", const SolveOptions& options = {},
                                Cost cost = Cost::fnorm);

/// MXQ's allocations along the size axis: the optima of at most `count` budgets for linear_bytes(), evenly
/// spaced from the smallest point to the one of least error. If `budget` is given and lies in this range, its
/// optimum replaces the nearest of them. Ascending by linear_bytes(), without duplicates. Throws UsageError,
/// naming the variable, if an error is unknown.
std::vector<Point> mxq_points(const SearchSpace& space, std::size_t count,
                              std::optional<Budget> budget = std::nullopt);

}  // namespace knapsaq
