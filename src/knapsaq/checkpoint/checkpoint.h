#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A model folder in Hugging Face layout, opened for reading: config.json and the tensors of
/// model.safetensors, of its shards with index, or of pytorch_model.bin (one file or shards with index;
/// safetensors win if both are there). Files are memory-mapped; nothing is copied until it is asked for.
///
/// Tensor names are canonical, `model.` being added where a file was saved without it: OPT's older
/// `decoder.*` is read as `model.decoder.*`, a bare Llama's `layers.*` as `model.layers.*`. Everything that
/// comes from the files is checked when the checkpoint is opened (headers, offsets, index) or when a tensor
/// is asked for; what is wrong is thrown as InputError naming file and tensor.
class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& folder);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& folder() const;
  /// config.json, parsed.
  const nlohmann::json& config() const;

  std::vector<std::string> names() const;  ///< of all tensors, sorted
  bool contains(std::string_view name) const;
  /// Throws InputError if there is no such tensor.
  TensorView tensor(std::string_view name) const;
  /// The elements of a weight tensor as floats. Throws InputError naming the tensor if it is of another type,
  /// or if an element is NaN or infinite.
  std::vector<float> floats(std::string_view name) const;
  /// Lets go of the pages that hold this tensor (see MappedFile::release).
  void release(std::string_view name) const;
  /// Bytes of all tensors; those that several names share (tied ones in a pytorch_model.bin) count once.
  std::uint64_t tensor_bytes() const;

  /// How the linear `module` (a name without ".weight") is quantized according to config.json's
  /// `quantization` and knapsaq.schemes; empty for a linear that is stored dense.
  struct Packing {
    StoredShape shape;
    std::string scheme;  ///< as text: config.json's knapsaq.schemes.<module>, else made up from the numbers
  };
  std::optional<Packing> packing(std::string_view module) const;
  /// The codes and metadata of a quantized linear (stored_layout.h says how they are stored), checked.
  StoredMatrix stored(std::string_view module) const;

 private:
  struct Impl;
  explicit Checkpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
