#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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

/// A model opened for reading. It is either a folder in Hugging Face layout or a GGUF file.
///
/// A folder has config.json and the tensors of model.safetensors, of its shards with index, or of
/// pytorch_model.bin (one file or shards with index); safetensors take precedence. A GGUF file has one of
/// llama.cpp's architectures llama, qwen2 and qwen3; if it was split, it is the first part. Its metadata
/// become a config.json in Hugging Face's notation, its tensors have Hugging Face's names and row order, and
/// tensors in GGML blocks are quantized linears, including embedding and head. Files are memory-mapped.
///
/// Tensor names are canonical. `model.` is added if a file was saved without it: OPT's older `decoder.*` is
/// read as `model.decoder.*`, a bare Llama's `layers.*` as `model.layers.*`. All data from files is checked,
/// when the checkpoint is opened (headers, offsets, index) or when a tensor is requested. Errors are
/// InputError, naming file and tensor.
class Checkpoint {
 public:
  /// How the matrices of a GGUF file with quantized weights are presented.
  enum class As : std::uint8_t {
    stored,  ///< as they are: with a packing()
    dense    ///< decoded as llama.cpp decodes them, in F32, and one of notes() says so: to quantize them
  };
  /// A folder or a GGUF file, distinguished by content.
  static Checkpoint open(const std::filesystem::path& path, As as = As::stored);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  /// The folder, or the GGUF file.
  const std::filesystem::path& folder() const;
  /// config.json, parsed, or its equivalent. One field is corrected: tie_word_embeddings is false if it is
  /// true in the file but the file has a head that differs from the embedding. Transformers uses that head
  /// (versions before 5 drop it), and so does Knapsaq.
  const nlohmann::json& config() const;
  /// Notes for people about what was corrected.
  const std::vector<std::string>& notes() const;

  /// What stands instead of "model." before the names of the language model's tensors in a multimodal model's
  /// files, or stood there in those that this one was made from: "model.language_model."; else empty.
  const std::string& prefix() const;

  std::vector<std::string> names() const;  ///< of all tensors, sorted
  bool contains(std::string_view name) const;
  /// Whether this is the weight of a quantized matrix that is presented decoded (As::dense).
  bool is_decoded(std::string_view name) const;
  /// Type and shape of a tensor without touching its bytes. Throws InputError if there is no such tensor.
  TensorSpec spec(std::string_view name) const;
  /// The view is valid until release(name). Throws InputError if there is no such tensor.
  TensorView tensor(std::string_view name) const;
  /// The elements of a weight tensor as floats. Throws InputError, naming the tensor, for another type and
  /// for elements that are NaN or infinite.
  std::vector<float> floats(std::string_view name) const;
  /// Releases the memory of this tensor: its pages (see MappedFile::release), or the copy that was made
  /// because the file has its rows in another order.
  void release(std::string_view name) const;
  /// Bytes of all tensors. A tensor with several names (tied ones in a pytorch_model.bin) counts once.
  std::uint64_t tensor_bytes() const;
  /// Bytes of the files that hold the tensors, headers and padding included, and the index of a folder's
  /// shards: what a budget limits.
  std::uint64_t file_bytes() const;

  /// The format of a model that another tool has quantized. Its weights are read as the floats that the
  /// tool's own reader makes of them; config() is without its description.
  struct Foreign {
    std::string format;  ///< for people: "GPTQ, 4 bits in groups of 128"
    double bits = 0;     ///< that one of its quantized weights takes in the files, scales included
  };
  /// Null for a model that is stored as it is read, or in one of Knapsaq's own forms.
  const Foreign* foreign() const;
  /// Calls `visit` with everything that determines the tensors: the tensors themselves, or what they are made
  /// of, sorted by name, each released afterwards. It makes nothing.
  void visit_stored(const std::function<void(const std::string& name, const TensorView&)>& visit) const;

  /// How the linear `module` (a name without ".weight") is quantized, according to config.json's
  /// `quantization` and knapsaq.schemes, or to its type in a GGUF file; nullopt for a dense one.
  struct Packing {
    StoredShape shape;
    std::string scheme;  ///< as text: config.json's knapsaq.schemes.<module>, else derived from the numbers
  };
  std::optional<Packing> packing(std::string_view module) const;
  /// The codes and metadata of a quantized linear (stored_layout.h says how they are stored), checked.
  StoredMatrix stored(std::string_view module) const;

 private:
  explicit Checkpoint(std::unique_ptr<CheckpointSource> source);
  std::unique_ptr<CheckpointSource> source_;
};

}  // namespace knapsaq
