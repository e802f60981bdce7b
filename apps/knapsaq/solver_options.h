#pragma once

#include <string>

#include "arguments.h"
#include "knapsaq/search/problem.h"

namespace knapsaq::command {

/// What solves MXQ's program, as users say it.
struct SolverOptions {
  std::string solver = "knapsack";
  double gap = SolveOptions().gap;
  double time_limit = SolveOptions().time_limit;
};
void add_solver_options(Verb verb, SolverOptions& options);

/// With the terminal's progress.
SolveOptions solve_options(const SolverOptions& options);

}  // namespace knapsaq::command
