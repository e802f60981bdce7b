#pragma once

#include "knapsaq/pipeline/listener.h"
#include "knapsaq/pipeline/solver_options.h"
#include "knapsaq/search/problem.h"

namespace knapsaq {

/// Throws UsageError for an unknown solver.
SolveOptions solve_options(const SolverOptions& options, Listener& listener);

}  // namespace knapsaq
