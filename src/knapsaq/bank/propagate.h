#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/bank/linear_file.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Quantizes a model block by block for one allocation, as GPTQ's own program does: the statistics for the
/// linears of a block are those of the samples after the preceding quantized blocks. (Within a block, the
/// inputs are those of its full-precision linears.) The codes then depend on the choices for all preceding
/// blocks, so a bank cannot hold them.
///
/// The files of finished linears, one scheme each, are in `folder`, in the order of linears(config). After a
/// kill, a call with the same arguments does not quantize them again. `allocation` has one scheme for each
/// linear of the blocks; `fingerprint` is that of the checkpoint. Throws UsageError for a scheme that its
/// method does not support, for allocations in which no method uses statistics, and for a folder that
/// check_propagation_folder() refuses; Cancelled.
std::vector<LinearFile> propagate(const Checkpoint& checkpoint, const ModelConfig& config,
                                  std::string_view fingerprint, std::span<const MatrixScheme> allocation,
                                  const Samples& samples, Backend& backend,
                                  const std::filesystem::path& folder, Progress& progress = Progress::none());

/// Throws UsageError, naming the obstacle, if `folder` exists and contains anything but what propagate()
/// writes for such a model. Call it before long work.
void check_propagation_folder(const std::filesystem::path& folder, const ModelConfig& config);

/// Removes what propagate() wrote into `folder`, and the folder if nothing else is in it.
void remove_propagated(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace knapsaq
