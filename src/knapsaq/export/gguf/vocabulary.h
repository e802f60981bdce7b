#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// The tokenizer of a model folder as GGUF's metadata (keys tokenizer.*): its tokens, padded to `vocab`, with
/// their types; scores (SentencePiece) or merges (byte-level); the tokens with roles; the special tokens
/// around a text; the tokens that end a text (ends_of_text()); and the chat template. The result is read back
/// and compared (tokenizer_check.h). Appends a line to `notes` for what llama.cpp does differently. Throws
/// InputError for a tokenizer that GGUF has no form for, or that has more tokens than `vocab`.
void add_vocabulary(const std::filesystem::path& folder, std::int64_t vocab, GgufMetadata& metadata,
                    std::vector<std::string>& notes);

}  // namespace knapsaq
