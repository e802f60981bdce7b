#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// How byte-level tokenizers cut text, under the names that llama.cpp has for it (tokenizer.ggml.pre).
struct GgufCut {
  std::string_view name;
  std::vector<std::string_view> patterns;  ///< applied one after the other, every match a piece
  bool ignore_merges;                      ///< a piece that is a token is that token
  bool adds_bos;                           ///< where tokenizer.ggml.add_bos_token does not say
};

/// Of several names for the same, the one to write comes first.
std::span<const GgufCut> gguf_cuts();

}  // namespace knapsaq
