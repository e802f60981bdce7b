#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// The input statistics at `path`: a calibration folder, or an imatrix file of llama.cpp. Throws InputError
/// if they belong to another model: a calibration of a model with another fingerprint(), an imatrix with
/// other linears.
std::unique_ptr<InputSource> open_input_source(const std::filesystem::path& path, const ModelConfig& config,
                                               std::string_view fingerprint);

}  // namespace knapsaq
