#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {

/// Copies the files that a model folder has besides its weights and config.json, if they exist: tokenizer,
/// chat template, generation settings, licence.
void carry_files(const std::filesystem::path& from, const std::filesystem::path& to);

/// How a tensor that is not quantized is written: as it is stored, except matrices in F32, which become F16
/// unless their module is `kept`. A full-precision model loses nothing visible, and half of its bytes.
TensorSpec carried_spec(const Checkpoint& checkpoint, const std::string& name,
                        std::span<const std::string> kept);

/// Copies a tensor in the form of carried_spec(), piece by piece. Throws InputError, naming the tensor, if an
/// element is not finite, in the source or in F16.
void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer,
                  std::span<const std::string> kept);

}  // namespace knapsaq
