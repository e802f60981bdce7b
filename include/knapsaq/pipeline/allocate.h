#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/allocation.h"
#include "knapsaq/pipeline/environment.h"
#include "knapsaq/pipeline/solver_options.h"

namespace knapsaq {

struct AllocateOptions {
  // One of the two:
  std::string table;  ///< CSV of tables(), or of MXQ's own tools
  std::string bank;   ///< of make_bank()

  std::string cost;  ///< what is made small: "fnorm", "relative", "hessian"; empty: the usual of the table
  // One of the two:
  double bits = 0;                     ///< average per weight of the linears in the blocks
  std::optional<std::uint64_t> bytes;  ///< of all matrices of the table

  std::string ties = "none";  ///< "none", "qkv", "gate-up", "vllm", "layer"; several with commas
  SolverOptions solver;
};

struct AllocateResult {
  std::string cost;
  double objective = 0;  ///< sum of the chosen errors
  double bound = 0;      ///< no allocation costs less
  double gap = 0;        ///< relative distance of the two
  std::uint64_t bytes = 0;
  double bits = 0;
  std::uint64_t budget_bytes = 0;
  double seconds = 0;  ///< spent solving
  std::vector<NamedScheme> allocation;
};

/// Solves MXQ's program (Eq. 3). Throws UsageError, InfeasibleError naming the smallest size, Cancelled.
AllocateResult allocate(Environment& environment, const AllocateOptions& options);

}  // namespace knapsaq
