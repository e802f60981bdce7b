#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {

// Knapsaq's own keys, in which its exports keep what GGUF has no form for. llama.cpp ignores them and behaves
// slightly differently there; the export prints a note.

/// List of texts, "left right": the merges of a SentencePiece tokenizer that do not follow from its scores.
inline constexpr const char* kGgufMerges = "knapsaq.tokenizer.merges";
/// Text, "first" or "always": a blank before the whole text, or before every stretch of it between special
/// tokens, unless it already starts with one (Metaspace's prepend_scheme; llama.cpp always adds one).
inline constexpr const char* kGgufPrependScheme = "knapsaq.tokenizer.prepend_scheme";
/// Truth value: the key of version 0.1 for the scheme "first".
inline constexpr const char* kGgufFirstBlank = "knapsaq.tokenizer.first_blank_only";
/// Truth value: text is normalised to NFC first. Without the key, true for the pre-tokenizers whose published
/// tokenizers all do so (GgufPreTokenizer::normalizes).
inline constexpr const char* kGgufNfc = "knapsaq.tokenizer.nfc";
/// List of whole numbers: alternately an id and the sum of the flags below of that added token.
inline constexpr const char* kGgufTokenFlags = "knapsaq.tokenizer.token_flags";
enum class GgufTokenFlag : std::uint8_t {
  normalized = 1,
  strip_left = 2,
  strip_right = 4,
  single_word = 8,
  verbatim = 16
};

/// How to read a file: as Knapsaq or as llama.cpp, which ignores the keys above and never normalises text
/// (NFC).
enum class GgufReading : std::uint8_t { knapsaq, llama_cpp };

/// The tokenizer in a GGUF file's metadata (tokenizer.ggml.*): model "llama" (SentencePiece's BPE: tokens and
/// scores), "gemma4" (its alphabet, with merges) or "gpt2" (byte-level BPE: tokens and merges, with the
/// pre-tokenizer named by `pre`). Throws
/// InputError, which names `where` and the key, for another model or pre-tokenizer and for damaged data.
TokenizerParts read_gguf_tokenizer(const GgufMetadata& metadata, const std::string& where,
                                   GgufReading reading = GgufReading::knapsaq);

/// The chat template of a GGUF file (tokenizer.chat_template); nullopt if it has none.
std::optional<std::string> gguf_chat_template(const std::filesystem::path& path);

}  // namespace knapsaq
