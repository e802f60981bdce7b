#pragma once

#include "arguments.h"
#include "knapsaq/pipeline/solver_options.h"

namespace knapsaq::command {

/// --solver, --gap and --time-limit.
void add_solver_flags(Verb verb, SolverOptions& options);

}  // namespace knapsaq::command
