#pragma once

#include <filesystem>

#include "knapsaq/pipeline/calibrate.h"
#include "knapsaq/pipeline/effort.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/pipeline/written_model.h"
#include "knapsaq/search/run.h"
#include "knapsaq/search/selection.h"

namespace knapsaq {

/// What an effort costs after the search, in passes of the whole model over the search's tokens, about.
struct EffortCost {
  double codes = 0;   ///< corrected codes of the searched and of the uniform model
  double tuning = 0;  ///< text, forward and backward passes
};
EffortCost cost_of(Effort effort, const Run& run, const CalibrationOptions& calibration);

/// Writes the model of a selection within the budget like write_selection(), after what `effort` asks for:
/// the codes of the searched allocation (with Effort::best of the three best) and of the uniform one are made
/// again with corrections, the best of all on the run's held-out tokens is tuned, and is written tuned if
/// these tokens like that better. Models in between are kept in the run's folder until the output is there:
/// after a kill, the same call goes on. `calibration`: the text that the run's codes were calibrated on.
/// Throws as write_selection(), correct_codes() and tune() do.
WrittenModel write_improved(Session& session, const Run& run, const Selection& selection,
                            const Budget& budget, Effort effort, const CalibrationOptions& calibration,
                            const std::filesystem::path& output, bool force);

}  // namespace knapsaq
