#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/base/files.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// The tensors of a file written by torch.save. Views point into the file, except those of tensors whose
/// elements were not contiguous there: these are copied in row-major order.
struct TorchTensors {
  std::map<std::string, TensorView, std::less<>> tensors;
  std::vector<std::vector<std::byte>> copies;
};

/// The tensors of a whole file in memory: torch's zip archive of a pickled state dict and its storages (see
/// read_torch_pickle for what is accepted and why nothing is executed). Tensors may share a storage.
/// Throws InputError without the file's name, which the caller knows.
TorchTensors parse_torch_file(std::span<const std::byte> bytes);

/// A pytorch_model.bin, memory-mapped.
class TorchFile {
 public:
  /// Throws IoError or InputError (naming file and tensor).
  explicit TorchFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return content_.tensors; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  TorchTensors content_;
};

}  // namespace knapsaq
