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

class CheckpointSource;

/// A model opened for reading. Either a folder in Hugging Face layout: config.json and the tensors of
/// model.safetensors, of its shards with index, or of pytorch_model.bin (one file or shards with index;
/// safetensors win if both are there). Or a GGUF file of llama.cpp's architectures llama, qwen2 and qwen3, or
/// the first of the files that one was split into: its metadata become a config.json in Hugging Face's
/// spelling, its tensors have Hugging Face's names and order of rows, and those in GGML blocks are quantized
/// linears, embedding and head among them. Files are memory-mapped.
///
/// Tensor names are canonical, `model.` being added where a file was saved without it: OPT's older
/// `decoder.*` is read as `model.decoder.*`, a bare Llama's `layers.*` as `model.layers.*`. Everything that
/// comes from the files is checked when the checkpoint is opened (headers, offsets, index) or when a tensor
/// is asked for; what is wrong is thrown as InputError naming file and tensor.
class Checkpoint {
 public:
  /// A folder or a GGUF file, told apart by content.
  static Checkpoint open(const std::filesystem::path& path);
  /// A folder; for what writes models, which carries the folder's other files. Throws InputError for a GGUF
  /// file.
  static Checkpoint open_folder(const std::filesystem::path& path);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  /// The folder, or the GGUF file.
  const std::filesystem::path& folder() const;
  /// config.json, parsed, or what it would be. One thing is corrected: tie_word_embeddings is false where it
  /// is true in the file but a head lies beside the embedding that differs from it. Transformers uses that
  /// head (those before version 5 drop it), and so does everything here.
  const nlohmann::json& config() const;
  /// Lines for people about what was corrected.
  const std::vector<std::string>& notes() const;

  std::vector<std::string> names() const;  ///< of all tensors, sorted
  bool contains(std::string_view name) const;
  /// Type and shape of a tensor without touching its bytes. Throws InputError if there is no such tensor.
  TensorSpec spec(std::string_view name) const;
  /// The view is good until release(name). Throws InputError if there is no such tensor.
  TensorView tensor(std::string_view name) const;
  /// The elements of a weight tensor as floats. Throws InputError naming the tensor if it is of another type,
  /// or if an element is NaN or infinite.
  std::vector<float> floats(std::string_view name) const;
  /// Lets go of the memory that holds this tensor: pages (see MappedFile::release), or the copy that was made
  /// because its rows are in another order in the file.
  void release(std::string_view name) const;
  /// Bytes of all tensors; those that several names share (tied ones in a pytorch_model.bin) count once.
  std::uint64_t tensor_bytes() const;

  /// How the linear `module` (a name without ".weight") is quantized according to config.json's
  /// `quantization` and knapsaq.schemes, or to its type in a GGUF file; empty for one that is stored dense.
  struct Packing {
    StoredShape shape;
    std::string scheme;  ///< as text: config.json's knapsaq.schemes.<module>, else made up from the numbers
  };
  std::optional<Packing> packing(std::string_view module) const;
  /// The codes and metadata of a quantized linear (stored_layout.h says how they are stored), checked.
  StoredMatrix stored(std::string_view module) const;

 private:
  explicit Checkpoint(std::unique_ptr<CheckpointSource> source);
  std::unique_ptr<CheckpointSource> source_;
};

}  // namespace knapsaq
