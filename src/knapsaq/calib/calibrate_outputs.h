#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "knapsaq/calib/gradient_calibrator.h"
#include "knapsaq/calib/manifest.h"

namespace knapsaq {

/// The files of the outputs' statistics in `folder` that `manifest` names, from the first one on, that are
/// whole.
std::size_t count_whole_outputs(const std::filesystem::path& folder, const Manifest& manifest);

/// Completes the statistics of outputs in `folder`, whose manifest has Manifest::outputs: file after file in
/// the order of the backward pass, after each of which the manifest is written.
void add_outputs(const std::filesystem::path& folder, Manifest& manifest,
                 const std::function<std::unique_ptr<GradientCalibrator>()>& make_calibrator);

}  // namespace knapsaq
