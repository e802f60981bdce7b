#include "knapsaq/text/gguf_pre_tokenizers.h"

#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

/// Mistral-Nemo's expression, as in its tokenizer.json.
constexpr std::string_view kTekkenSplit =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

std::span<const GgufPreTokenizer> gguf_pre_tokenizers() {
  // llama.cpp's own expressions (llama-vocab.cpp) give the same pieces.
  static const std::vector<GgufPreTokenizer> known = {
      {"gpt-2", {kGpt2Split}, false, false},
      {"llama-bpe", {kLlama3Split}, true, true},
      {"llama3", {kLlama3Split}, true, true},
      {"llama-v3", {kLlama3Split}, true, true},
      {"smaug-bpe", {kLlama3Split}, false, false},
      {"qwen2", {kQwen2Split}, false, false},
      {"deepseek-r1-qwen", {kQwen2Split}, false, false},
      {"tekken", {kTekkenSplit}, true, true},
      {"smollm", {R"(\p{N})", kGpt2Split}, false, false},
      // llama.cpp's fallback; it corresponds to no tokenizer of Hugging Face.
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Split, R"(\p{N}+)", "[0-9][0-9][0-9]"}, false, false}};
  return known;
}

}  // namespace knapsaq
