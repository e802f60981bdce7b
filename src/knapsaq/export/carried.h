#pragma once

#include <filesystem>
#include <string>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"

namespace knapsaq {

/// Copies what makes a folder a whole model besides its weights and config.json (tokenizer, chat template,
/// generation settings, licence) as far as it is there.
void carry_files(const std::filesystem::path& from, const std::filesystem::path& to);

/// Copies a tensor as it is, a piece at a time. Throws InputError naming it if an element is not finite.
void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer);

}  // namespace knapsaq
