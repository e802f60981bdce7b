#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/quant/scheme.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// One scheme for every linear of a table, and what is known about the choice.
struct Allocation {
  std::vector<Scheme> schemes;  ///< in the order of the table's rows
  double objective = 0;         ///< sum of the chosen errors
  double bound = 0;             ///< proven lower bound on any allocation's objective
  double gap = 0;               ///< relative distance of the two
  std::uint64_t bytes = 0;      ///< of the linears' tensors
  double bits = 0;              ///< 8 * bytes / parameters: average bits per quantized weight
  double seconds = 0;           ///< spent solving
};

/// Budget for all linears of the table together, in bytes; from average bits per weight: bits * parameters
/// / 8.
double budget_bytes(const ErrorTable& table, double bits);

/// MXQ's allocation (Eq. 1 and 3): least sum of errors (Frobenius norms in the paper) with at most `budget`
/// bytes for the linears. `ties` as in tie_groups(). Throws InfeasibleError, in bytes, if the budget is too
/// small, and UsageError naming the linear if the table does not know this kind of error.
Allocation allocate_mxq(const ErrorTable& table, double budget, std::string_view ties = "none",
                        const SolveOptions& options = {}, Cost cost = Cost::fnorm);

/// The same within a hard budget for all that is written: `written` tells the exact bytes of the model's
/// files for one scheme per row (layout_quantized().bytes). The result's `bytes` are still those of the
/// linears. Throws InfeasibleError with the bytes of the smallest model that can be written; that size is
/// then feasible.
Allocation allocate_mxq_written(const ErrorTable& table, std::uint64_t budget,
                                const std::function<std::uint64_t(std::span<const Scheme>)>& written,
                                std::string_view ties = "none", const SolveOptions& options = {},
                                Cost cost = Cost::fnorm);

/// MXQ's allocations along the size axis: the optima of at most `count` budgets for linear_bytes(), evenly
/// spaced from the smallest point to the one of least error; one of them is `budget` if it is given and lies
/// between. Ascending by bytes, none twice. Throws UsageError naming the variable whose error is not known.
std::vector<Point> mxq_points(const SearchSpace& space, std::size_t count,
                              std::optional<std::uint64_t> budget = std::nullopt);

}  // namespace knapsaq
