#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// The pre-tokenizer of a byte-level tokenizer, under llama.cpp's name for it (tokenizer.ggml.pre).
struct GgufPreTokenizer {
  std::string_view name;
  std::vector<std::string_view> patterns;  ///< applied in order; every match is a piece
  bool ignore_merges = false;              ///< a piece that is in the vocabulary is that token
  bool adds_bos = false;                   ///< if tokenizer.ggml.add_bos_token is absent
  /// Whether the published tokenizers bring text into NFC, which llama.cpp does not.
  bool normalizes = false;
};

/// All known ones. Of several names for the same pre-tokenizer, the one to write comes first.
std::span<const GgufPreTokenizer> gguf_pre_tokenizers();

}  // namespace knapsaq
