#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/model/config.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Knapsaq's own format: a folder in Hugging Face layout whose linears are stored as
/// checkpoint/affine_layout.h says (MLX's affine layout, with an extension for quantized metadata);
/// docs/quantized-layout.md is its description.
///
/// Its tensors, known to the byte before anything is quantized.
struct QuantizedLayout {
  std::vector<TensorSpec> tensors;  ///< in the order in which they are written
  std::uint64_t bytes = 0;          ///< of all weight files, headers and index included: what a budget limits
  std::uint64_t linear_bytes = 0;   ///< of these, the tensors of the quantized linears (without bias vectors)
};

/// `schemes` has one scheme for each of linears(config), in that order. Tensors that the architecture does
/// not use, and the second copy of a tied head, are left out. Throws UsageError if the checkpoint is
/// quantized already.
QuantizedLayout layout_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                 std::span<const Scheme> schemes, std::uint64_t shard_bytes = kShardBytes);

/// layout_quantized().bytes as a function of the linears' schemes: modules are linears(config), which are the
/// table's rows, and forms the schemes of its cells. Errors of layout_quantized().
FileSizes quantized_file_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                               const ErrorTable& table, std::uint64_t shard_bytes = kShardBytes);

/// What was written.
struct QuantizedModel {
  std::uint64_t bytes = 0;  ///< see QuantizedLayout
  double bits = 0;          ///< average per quantized weight, metadata included
  double error = 0;         ///< sum over the linears of || W - Q(W) ||_F: MXQ's objective
};

/// Writes the folder `out`, which appears complete or not at all, with the linears as `source` gives them,
/// one after another. Throws UsageError if `out` exists and `replace` is not set, InputError naming the
/// tensor for weights that are not finite, and whatever the source throws.
QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const Scheme> schemes, const MatrixSource& source,
                               const std::filesystem::path& out, bool replace,
                               Progress& progress = Progress::none(),
                               std::uint64_t shard_bytes = kShardBytes);

/// The same, quantizing every linear on the spot, without statistics of its inputs.
QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const Scheme> schemes, const std::filesystem::path& out,
                               bool replace, Progress& progress = Progress::none(),
                               std::uint64_t shard_bytes = kShardBytes);

}  // namespace knapsaq
