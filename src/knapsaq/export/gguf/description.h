#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// The fields of a model card's front matter (YAML between two lines "---" at the beginning of a README.md)
/// whose values are texts or lists of texts, in one line or a line for each. Everything else is left out.
std::map<std::string, std::vector<std::string>, std::less<>> front_matter(std::string_view card);

/// What a folder in Hugging Face layout says of its model that GGUF has keys for, beside its architecture and
/// its tokenizer: licence, languages, tags, base models and data sets of its model card, and how to sample
/// (generation_config.json). The keys are those of gguf-py's metadata.py. Empty without any of it.
GgufMetadata description_of(const std::filesystem::path& folder);

}  // namespace knapsaq
