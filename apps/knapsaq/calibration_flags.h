#pragma once

#include <string>

#include "arguments.h"
#include "knapsaq/pipeline/calibrate.h"

namespace knapsaq::command {

/// --text, --samples, --window, --seed (or as `seed` calls it) and --precision; with `with_folder` also
/// --calibration.
void add_calibration_flags(Verb verb, CalibrationOptions& options, bool with_folder,
                           const std::string& seed = "--seed");

}  // namespace knapsaq::command
