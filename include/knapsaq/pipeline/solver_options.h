#pragma once

#include <string>

namespace knapsaq {

/// What solves MXQ's program.
struct SolverOptions {
  std::string solver =
      "knapsack";          ///< "knapsack": Knapsaq's own, exact; "highs": the integer program, as the paper
  double gap = 0;          ///< HiGHS: stop at this relative distance from the proven bound
  double time_limit = 60;  ///< HiGHS, seconds: the best found by then is taken, with its gap
};

}  // namespace knapsaq
