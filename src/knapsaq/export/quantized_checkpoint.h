#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// Knapsaq's own format: a folder in Hugging Face layout whose matrices are stored as described in
/// checkpoint/affine_layout.h (MLX's affine layout, with an extension for quantized metadata).
/// docs/quantized-layout.md describes it.
///
/// Its tensors, known to the byte before anything is quantized.
struct QuantizedLayout {
  std::vector<TensorSpec> tensors;  ///< in the order in which they are written
  std::uint64_t bytes = 0;          ///< of all weight files, headers and index included: what a budget limits
  std::uint64_t quantized_bytes =
      0;  ///< of these, the tensors of the quantized matrices (without bias vectors)
};

struct WriteOptions {
  std::uint64_t shard_bytes = kShardBytes;
  /// Modules that are written as the checkpoint stores them. Other matrices that are not quantized are
  /// written in 16 bits if they have more (carried_spec()).
  std::vector<std::string> kept = {};
};

/// Tensors that the architecture does not use, and the second copy of a tied head, are omitted. Throws
/// InputError if one of the allocation's matrices is already quantized.
QuantizedLayout layout_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                 std::span<const MatrixScheme> allocation, const WriteOptions& options = {});

/// layout_quantized().bytes as a function of the matrices' schemes: modules are the table's rows, and forms
/// are the schemes of its cells. Throws like layout_quantized(), and InputError for rows that the model does
/// not have.
std::shared_ptr<const FileSizes> quantized_file_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                                                      const ErrorTable& table,
                                                      const WriteOptions& options = {});

/// The tensors of a matrix in a scheme, in the order in which they are written.
using FormOf = std::function<std::vector<TensorSpec>(const Matrix& matrix, const Scheme& scheme)>;
/// Dense tensors as a folder has them, by the name of the first that each is made of (as layout_quantized()
/// has them).
using DenseForms = std::function<std::map<std::string, TensorSpec>(const std::vector<TensorSpec>& tensors)>;
/// The bytes of the files of any folder of safetensors that has the table's matrices in the forms that `form`
/// assigns to their cells, and dense tensors as in layout_quantized(), or as `dense` says.
std::shared_ptr<const FileSizes> checkpoint_sizes(const Checkpoint& checkpoint, const ModelConfig& config,
                                                  const ErrorTable& table, const WriteOptions& options,
                                                  const FormOf& form, const DenseForms& dense = {});

/// The result of a write.
struct QuantizedModel {
  std::uint64_t bytes = 0;  ///< see QuantizedLayout
  double bits = 0;          ///< average per quantized weight, metadata included
  double error = 0;         ///< sum over the quantized matrices of || W - Q(W) ||_F: MXQ's objective
};

/// Writes the folder `out`, which appears complete or not at all, with the matrices from `source`, one after
/// another. Throws UsageError if `out` exists and `replace` is not set, InputError, naming the tensor, for
/// weights that are not finite, and whatever the source throws.
QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const MatrixScheme> allocation, const MatrixSource& source,
                               const std::filesystem::path& out, bool replace,
                               Progress& progress = Progress::none(), const WriteOptions& options = {});

/// The same, but quantizes every matrix during the write, without statistics of its inputs.
QuantizedModel write_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::span<const MatrixScheme> allocation, const std::filesystem::path& out,
                               bool replace, Progress& progress = Progress::none(),
                               const WriteOptions& options = {});

}  // namespace knapsaq
