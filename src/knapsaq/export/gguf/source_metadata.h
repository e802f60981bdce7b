#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// What is known of a model in GGUF's keys: the metadata of the GGUF file that it is; those that a folder of
/// Knapsaq's keeps (kGgufMetadataName); or what another folder says (description_of()).
GgufMetadata metadata_of(const std::filesystem::path& model);

/// Whether metadata have a tokenizer.
bool has_tokenizer(const GgufMetadata& metadata);

/// Whether an entry says something about the model, its tokenizer included, and not about how the file
/// stores it: types, alignment, parts, who quantized it by which program.
bool describes_model(std::string_view key);

/// Writes the entries of `source` that describe the model as a GGUF file without tensors.
void write_source_metadata(const GgufMetadata& source, const std::filesystem::path& path);

/// Adds the tokenizer of `source` as it is (tokenizer.* and what Knapsaq keeps beside it), if it has a token
/// for each of the `vocab` rows of the model; returns whether it has. The chat template of the folder `model`
/// comes first, if there is one: somebody may have changed it.
bool add_source_vocabulary(const GgufMetadata& source, const std::filesystem::path& model, std::int64_t vocab,
                           GgufMetadata& metadata);

/// Adds what else `source` says of the model: general.* and what llama.cpp knows of the architecture `arch`.
/// Entries that are there already stay as they are.
void add_source_description(const GgufMetadata& source, std::string_view arch, GgufMetadata& metadata);

}  // namespace knapsaq
