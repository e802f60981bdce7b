#pragma once

// What every verb that may need a calibration shares: its options, and making one where there is none.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/App.hpp>

#include "knapsaq/calib/calibration.h"

namespace knapsaq::command {

struct CalibrationOptions {
  std::string folder;             ///< --calibration, or an imatrix file; empty: the verb's default place
  std::vector<std::string> text;  ///< --text
  SampleOptions samples;          ///< --samples, --window, --seed
  std::string precision = "bf16";
};

/// --text, --samples, --window, --seed and --precision; with `with_folder` also --calibration.
void add_calibration_options(CLI::App& verb, CalibrationOptions& options, bool with_folder);

/// The calibration that a verb works with. With text: the one in the folder if it was made from this text
/// with these options, else a new one is made there (after a kill: finished). Without text: the one in the
/// folder. The folder is `options.folder`, or `default_folder` if that is empty. Throws UsageError if there
/// is neither text nor a calibration (`need` says what wants one, as "method gptq"), or if the folder holds a
/// calibration that was made from something else.
Calibration find_calibration(const Checkpoint& checkpoint, const ModelConfig& config,
                             std::string_view fingerprint, const CalibrationOptions& options,
                             const std::filesystem::path& default_folder, std::string_view need);

/// find_calibration(), or the imatrix file of llama.cpp that `options.folder` names.
std::unique_ptr<InputSource> find_inputs(const Checkpoint& checkpoint, const ModelConfig& config,
                                         std::string_view fingerprint, const CalibrationOptions& options,
                                         const std::filesystem::path& default_folder, std::string_view need);

}  // namespace knapsaq::command
