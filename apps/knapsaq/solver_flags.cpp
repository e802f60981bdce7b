#include "solver_flags.h"

namespace knapsaq::command {

void add_solver_flags(Verb verb, SolverOptions& options) {
  verb.option("--solver", options.solver,
              "knapsack: Knapsaq's own, exact; highs: the integer program, as the paper solves it")
      .one_of({"knapsack", "highs"})
      .show_default();
  verb.option("--gap", options.gap, "HiGHS: stop at this relative distance from the proven bound")
      .fraction()
      .show_default();
  verb.option("--time-limit", options.time_limit,
              "HiGHS: seconds; then the best found is taken, with its gap")
      .positive()
      .show_default();
}

}  // namespace knapsaq::command
