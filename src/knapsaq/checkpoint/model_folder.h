#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <variant>

#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/checkpoint/tensor_table.h"
#include "knapsaq/checkpoint/torch_file.h"

namespace knapsaq {

/// The files of a model in Hugging Face layout that hold its tensors, under the names that the files use:
/// model.safetensors, its shards with index, or pytorch_model.bin, whole or in shards with an index.
class ModelFolder {
 public:
  /// Maps them and adds their tensors to `tensors`, which must not outlive this. Throws InputError.
  ModelFolder(const std::filesystem::path& folder, TensorTable& tensors);

  /// Of all files, the index of the shards included.
  std::uint64_t bytes() const;

 private:
  using File = std::variant<SafetensorsFile, TorchFile>;
  const File& open(const std::filesystem::path& path);
  void open_single(const std::filesystem::path& path, TensorTable& tensors);
  void open_sharded(const std::filesystem::path& index_path, TensorTable& tensors);

  std::deque<File> files_;         ///< the table points to them
  std::uint64_t index_bytes_ = 0;  ///< 0 without shards
};

}  // namespace knapsaq
