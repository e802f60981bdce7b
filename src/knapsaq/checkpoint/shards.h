#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/safetensors.h"

namespace knapsaq {

/// The `weight_map` of model.safetensors.index.json or pytorch_model.bin.index.json: tensor to file. Files
/// are plain names in the index's own folder. Throws InputError for anything else, without the index's name.
std::map<std::string, std::string> parse_shard_index(std::string_view text);

/// A checkpoint with more bytes of tensors than this is split, as in Transformers 4 and MLX.
inline constexpr std::uint64_t kShardBytes = 5'000'000'000;

/// Bytes of a tensor's line in model.safetensors.index.json, and of the whole file, given the bytes of its
/// lines and of its tensors.
std::uint64_t index_entry_bytes(std::string_view tensor);
std::uint64_t index_bytes(std::uint64_t entries, std::uint64_t tensor_bytes);

/// Exact bytes of the files that CheckpointWriter makes: tensors, headers, and the index if there is one.
std::uint64_t checkpoint_bytes(std::span<const TensorSpec> tensors, std::uint64_t shard_bytes = kShardBytes);

/// Writes the tensors of a checkpoint front to back into a folder: model.safetensors, or
/// model-0000i-of-0000n.safetensors with model.safetensors.index.json if the tensors take more than
/// `shard_bytes`. The folder should be the staging folder of an AtomicFolder, because shards appear one by
/// one.
class CheckpointWriter {
 public:
  CheckpointWriter(std::filesystem::path folder, std::span<const TensorSpec> tensors,
                   std::uint64_t shard_bytes = kShardBytes);
  /// The next bytes, in the order of the tensors; a call may continue into the next tensor.
  void write(std::span<const std::byte> bytes);
  /// Throws std::logic_error unless exactly the declared bytes were written.
  void commit();

 private:
  struct Shard {
    std::string file;
    std::vector<TensorSpec> tensors;
    std::uint64_t bytes = 0;  ///< of data
  };
  static std::vector<Shard> plan(std::span<const TensorSpec> tensors, std::uint64_t shard_bytes);
  static std::string index_text(std::span<const Shard> shards);
  void open_next();
  friend std::uint64_t checkpoint_bytes(std::span<const TensorSpec>, std::uint64_t);

  std::filesystem::path folder_;
  std::vector<Shard> shards_;
  std::size_t next_ = 0;  ///< shard to open next
  std::uint64_t remaining_ = 0;
  std::unique_ptr<SafetensorsWriter> writer_;
};

}  // namespace knapsaq
