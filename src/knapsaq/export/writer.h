#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

struct ExportOptions {
  /// Allows linears that the format cannot hold exactly to be requantized; ExportReport::changes lists them.
  bool requantize = false;
  bool replace = false;  ///< replace the output if it exists
  /// Whether the model may be for engines that run several linears as one matrix: a note then says what they
  /// do not load.
  bool fusing_readers = true;
  std::string name;  ///< the model's name, for formats that contain one; empty: the folder's name
  std::uint64_t shard_bytes = kShardBytes;
};

struct ExportReport {
  std::uint64_t bytes = 0;           ///< of the weight files written
  std::vector<std::string> changes;  ///< a line for people for each linear that was not carried exactly
  std::vector<std::string>
      notes;  ///< a line for people for each thing that the format's readers do differently
};

/// A format of other programs: writes a quantized model to an output path. Implementations are stateless; one
/// file per format, one line in registry.cpp.
class Writer {
 public:
  virtual ~Writer() = default;
  virtual std::string_view name() const = 0;
  /// Whether write() makes one file and not a folder.
  virtual bool makes_file() const { return false; }
  /// Writes `model`, quantized by Knapsaq (or dense, if the format has dense types), to `out`, which appears
  /// complete or not at all. Every linear is carried exactly: the reader's weights are those of
  /// Checkpoint::stored(). Throws UsageError before anything is written, naming the first linear that the
  /// format cannot carry and why, unless options.requantize is set; InputError for an architecture that the
  /// format does not support.
  virtual ExportReport write(const Checkpoint& model, const ModelConfig& config,
                             const std::filesystem::path& out, const ExportOptions& options,
                             Progress& progress) const = 0;
  /// The bytes of the weight files (makes_file(): of the file) that write() makes from the model that
  /// write_quantized() makes from this full-precision one, as a function of the schemes: modules are the
  /// table's rows, forms its cells. `name` as in ExportOptions. Throws InputError for an architecture that
  /// the format does not support.
  virtual std::shared_ptr<const FileSizes> file_sizes(const Checkpoint& model, const ModelConfig& config,
                                                      const ErrorTable& table, const WriteOptions& options,
                                                      std::string_view name) const = 0;
};

/// Throws UsageError listing the known formats.
const Writer& writer(std::string_view format);
/// The names that writer() knows, for help texts.
std::vector<std::string> export_formats();

}  // namespace knapsaq
