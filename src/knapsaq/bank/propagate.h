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

/// Quantizes a model block by block for one allocation: the linears of a block by the statistics of what the
/// quantized blocks before it make of the samples, as GPTQ's own program does. (Within a block the inputs are
/// those of its full-precision linears.) Codes then depend on the choices for all blocks before, which is why
/// a bank does not hold such.
///
/// The files of finished linears, one scheme each, are in `folder`, in the order of linears(config); called
/// again with the same arguments after a kill, what is there is not quantized again. `allocation` has one
/// scheme for each linear of the blocks; `fingerprint` is that of the checkpoint. Throws UsageError for a
/// scheme that its method cannot do, for allocations in which no method looks at inputs and for a folder that
/// check_propagation_folder() refuses; Cancelled.
std::vector<LinearFile> propagate(const Checkpoint& checkpoint, const ModelConfig& config,
                                  std::string_view fingerprint, std::span<const MatrixScheme> allocation,
                                  const Samples& samples, Backend& backend,
                                  const std::filesystem::path& folder, Progress& progress = Progress::none());

/// Throws UsageError, naming what is in the way, if `folder` exists and is not a folder that holds nothing
/// but what propagate() writes for such a model: for asking before long work.
void check_propagation_folder(const std::filesystem::path& folder, const ModelConfig& config);

/// Removes what propagate() wrote into `folder`, and the folder if nothing else is in it.
void remove_propagated(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace knapsaq
