#pragma once

// What `search`, `fit` and `study` share: what a run is of, and which search.

#include <string>
#include <vector>

#include "arguments.h"
#include "knapsaq/pipeline/search.h"

namespace knapsaq::command {

/// What a run is of, as options: everything but the model and --run.
struct RunFlags {
  RunOptions options;
  std::vector<Option> defining;  ///< those that decide about what a run is of
};
void add_run_flags(Verb verb, RunFlags& flags);
/// An existing run is gone on with if no option says what it is of.
RunOptions run_options(const RunFlags& flags);

/// --strategy, --set, --seed and --evaluations.
void add_strategy_flags(Verb verb, StrategyOptions& options);

}  // namespace knapsaq::command
