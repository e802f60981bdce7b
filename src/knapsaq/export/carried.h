#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {

/// Who reads a folder that is written.
enum class FolderReader : std::uint8_t {
  knapsaq,  ///< and every program that reads Hugging Face's files
  others    ///< those only
};

/// What a model has besides its weights and config.json: tokenizer, chat templates, generation settings,
/// processors of images and sound, licence. A folder's files are copied byte for byte, by their names: no
/// weights, no code, and no README, whose figures are those of the model before it was quantized.
///
/// Of a GGUF file, its metadata become Hugging Face's files: tokenizer.json, tokenizer_config.json with the
/// chat templates, generation_config.json. For Knapsaq they are also kept as they are (kGgufMetadataName),
/// and so is what a README says in GGUF's keys: a GGUF file that is made of the folder has them.
class CarriedFiles {
 public:
  /// Looks at everything that can be wrong, so that it can be said before any work. Throws InputError if the
  /// tokenizer of a GGUF file has no form as tokenizer.json; Knapsaq reads it from the metadata then.
  CarriedFiles(const Checkpoint& model, FolderReader reader);

  /// Writes them to a folder that has its config.json already. Throws InputError if the tokenizer that is
  /// read back from there differs (check_carried_tokenizer()).
  void write(const std::filesystem::path& folder) const;

 private:
  void find_files();
  void make_files(const GgufMetadata& metadata, const Checkpoint& model, FolderReader reader);

  std::filesystem::path model_;
  std::vector<std::filesystem::path> copied_;              ///< relative to the folder
  std::vector<std::pair<std::string, std::string>> made_;  ///< names and contents
  GgufMetadata metadata_;                                  ///< kept as they are
};

/// How a tensor that is not quantized is written: as it is stored, except matrices in F32, which become F16
/// unless their module is `kept`, and matrices whose quantized weights were decoded, which always do: F16
/// holds what a few bits hold. A full-precision model loses nothing visible, and half of its bytes.
TensorSpec carried_spec(const Checkpoint& checkpoint, const std::string& name,
                        std::span<const std::string> kept);

/// Copies a tensor of carried_tensors() as it is, whatever its type.
void carry_untouched(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer);

/// Copies a tensor in the form of carried_spec(), piece by piece. Throws InputError, naming the tensor, if an
/// element is not finite, in the source or in F16.
void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer,
                  std::span<const std::string> kept);

}  // namespace knapsaq
