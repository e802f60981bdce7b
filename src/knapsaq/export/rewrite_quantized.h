#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// What the copy of a quantized folder has instead of the folder's own.
struct Replacements {
  /// By module: matrices of the same form, which must outlive this.
  std::map<std::string, const StoredMatrix*, std::less<>> matrices;
  /// By the tensor's name: values that the tensor's type holds.
  std::map<std::string, std::vector<float>, std::less<>> vectors;
};

/// Writes a copy of a quantized model with other numbers in some of its tensors: names, types, shapes, bytes
/// and config.json stay. A GGUF file becomes a folder in Knapsaq's format. `out` appears complete or not at
/// all. Returns the bytes of all weight files. Throws UsageError if `out` exists and `replace` is not set,
/// InputError, naming the tensor, for weights that are not finite; std::invalid_argument for a replacement of
/// another form or for a name that the model does not have; Cancelled.
std::uint64_t rewrite_quantized(const Checkpoint& checkpoint, const ModelConfig& config,
                                const Replacements& replacements, const std::filesystem::path& out,
                                bool replace, Progress& progress = Progress::none());

}  // namespace knapsaq
