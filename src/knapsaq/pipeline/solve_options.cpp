#include "knapsaq/pipeline/solve_options.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

SolveOptions solve_options(const SolverOptions& options, Listener& listener) {
  if (options.solver != "knapsack" && options.solver != "highs")
    throw UsageError(fmt::format("there is no solver {}; give knapsack or highs", in_quotes(options.solver)));
  SolveOptions result;
  result.progress = &listener;
  if (options.solver == "highs") result.solver = Solver::highs;
  result.gap = options.gap;
  result.time_limit = options.time_limit;
  return result;
}

}  // namespace knapsaq
