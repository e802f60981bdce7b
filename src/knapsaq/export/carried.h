#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {

/// Copies what makes a folder a whole model besides its weights and config.json (tokenizer, chat template,
/// generation settings, licence) as far as it is there.
void carry_files(const std::filesystem::path& from, const std::filesystem::path& to);

/// How a tensor that is not quantized is written: as it is stored, but for matrices in F32, which get F16
/// unless their module is `kept`: a full-precision model loses nothing that shows, and the half of its bytes.
TensorSpec carried_spec(const Checkpoint& checkpoint, const std::string& name,
                        std::span<const std::string> kept);

/// Copies a tensor as carried_spec() says, a piece at a time. Throws InputError naming it if an element is
/// not finite, or not in F16.
void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer,
                  std::span<const std::string> kept);

}  // namespace knapsaq
