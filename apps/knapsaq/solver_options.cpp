#include "solver_options.h"

#include "command.h"
#include "number_check.h"

namespace knapsaq::command {

void add_solver_options(CLI::App& verb, SolverOptions& options) {
  verb.add_option("--solver", options.solver,
                  "knapsack: Knapsaq's own, exact; highs: the integer program, as the paper solves it")
      ->check(CLI::IsMember({"knapsack", "highs"}))
      ->capture_default_str();
  verb.add_option("--gap", options.gap, "HiGHS: stop at this relative distance from the proven bound")
      ->check(fraction_check())
      ->capture_default_str();
  verb.add_option("--time-limit", options.time_limit,
                  "HiGHS: seconds; then the best found is taken, with its gap")
      ->check(positive_number_check())
      ->capture_default_str();
}

SolveOptions solve_options(const SolverOptions& options) {
  SolveOptions result;
  result.progress = &progress();
  if (options.solver == "highs") result.solver = Solver::highs;
  result.gap = options.gap;
  result.time_limit = options.time_limit;
  return result;
}

}  // namespace knapsaq::command
