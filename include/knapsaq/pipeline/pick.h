#pragma once

#include <string>

#include "knapsaq/pipeline/budget.h"
#include "knapsaq/pipeline/environment.h"
#include "knapsaq/pipeline/written_model.h"

namespace knapsaq {

struct PickOptions {
  std::string run;     ///< folder of a run, also of one that is being written
  std::string model;   ///< where the model is now; empty: where it was
  std::string output;  ///< folder, or the engine's file
  BudgetOptions budget;
  /// With `budget.bits` alone: the best within so many bits above or below, as AMQ picks; no hard budget
  /// then.
  double near = 0;
  std::string codes;     ///< bank whose codes are written; empty: the run's
  std::string strategy;  ///< only what searches with this strategy found; empty: all
  bool force = false;    ///< replace the output
};

/// Writes the best model within the budget that a run has found. Throws UsageError, InfeasibleError naming
/// the smallest size, InputError if nothing that fits was measured yet, Cancelled.
WrittenModel pick(Environment& environment, const PickOptions& options);

}  // namespace knapsaq
