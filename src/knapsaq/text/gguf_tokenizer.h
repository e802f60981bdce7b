#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {

// The keys beside llama.cpp's in which Knapsaq's exports keep what GGUF has no form for. llama.cpp ignores
// them and behaves a little differently there, which the export says.

/// List of texts, "left right": the merges of a tokenizer of SentencePiece's kind that its scores do not
/// imply.
inline constexpr const char* kGgufMerges = "knapsaq.tokenizer.merges";
/// Truth value: a blank only in front of the whole text, and none where one stands there.
inline constexpr const char* kGgufFirstBlank = "knapsaq.tokenizer.first_blank_only";
/// Truth value: text is brought into Unicode's form NFC first. Without the key so for qwen2's cut, whose
/// published tokenizers all do so.
inline constexpr const char* kGgufNfc = "knapsaq.tokenizer.nfc";
/// List of whole numbers, an id and what is special about that added token (the sum of the flags below) in
/// turn.
inline constexpr const char* kGgufTokenFlags = "knapsaq.tokenizer.token_flags";
enum class GgufTokenFlag : std::uint8_t { normalized = 1, strip_left = 2, strip_right = 4, single_word = 8 };

/// The tokenizer in a GGUF file's metadata (tokenizer.ggml.*): model "llama" (SentencePiece's BPE: tokens and
/// scores) or "gpt2" (byte-level BPE: tokens and merges, cut as `pre` says). Throws InputError, which names
/// `where` and the key, for another model or cut and for what is damaged.
TokenizerParts read_gguf_tokenizer(const GgufMetadata& metadata, const std::string& where);

/// The template of a GGUF file by which conversations become text (tokenizer.chat_template); nothing if it
/// has none.
std::optional<std::string> gguf_chat_template(const std::filesystem::path& path);

}  // namespace knapsaq
