#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// The tokenizer of a model folder as GGUF's metadata (keys tokenizer.*): its tokens, padded to `vocab` of
/// them, with their types, scores (SentencePiece's kind) or merges (byte-level kind), the tokens with roles,
/// what stands around a text, the tokens that end one (ends_of_text()), and the chat template. What was
/// made is read back and compared (tokenizer_check.h). Appends a line to `notes` for what llama.cpp does
/// otherwise. Throws InputError for a tokenizer that GGUF has no form for, or that has more tokens than
/// `vocab`.
void add_vocabulary(const std::filesystem::path& folder, std::int64_t vocab, GgufMetadata& metadata,
                    std::vector<std::string>& notes);

}  // namespace knapsaq
