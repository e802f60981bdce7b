#include "knapsaq/text/gguf_pre_tokenizers.h"

#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

/// Mistral-Nemo's expression, as in its tokenizer.json.
constexpr std::string_view kTekkenSplit =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// GPT-4o's, which gpt-oss has.
constexpr std::string_view kGpt4oSplit =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDigit = R"(\p{N})";

}  // namespace

std::span<const GgufPreTokenizer> gguf_pre_tokenizers() {
  // llama.cpp's own expressions (llama-vocab.cpp) give the same pieces.
  using List = std::vector<std::string_view>;
  static const List gpt2 = {kGpt2Split};
  static const List llama3 = {kLlama3Split};
  static const List qwen2 = {kQwen2Split};
  static const List digits = {kDigit, kGpt2Split};
  static const std::vector<GgufPreTokenizer> known = {
      {.name = "gpt-2", .patterns = gpt2},
      {.name = "olmo", .patterns = gpt2, .normalizes = true},  // GPT-NeoX's, Pythia's
      {.name = "mpt", .patterns = gpt2, .normalizes = true},   // another name of it
      {.name = "phi-2", .patterns = gpt2},
      {.name = "granite-docling", .patterns = gpt2},
      {.name = "llama-bpe", .patterns = llama3, .ignore_merges = true, .adds_bos = true},
      {.name = "llama3", .patterns = llama3, .ignore_merges = true, .adds_bos = true},
      {.name = "llama-v3", .patterns = llama3, .ignore_merges = true, .adds_bos = true},
      {.name = "lfm2", .patterns = llama3, .ignore_merges = true, .adds_bos = true},
      {.name = "pixtral", .patterns = llama3, .ignore_merges = true, .adds_bos = true},
      {.name = "smaug-bpe", .patterns = llama3},
      {.name = "dbrx", .patterns = llama3},  // OLMo 2's, Phi-4's
      {.name = "qwen2", .patterns = qwen2, .normalizes = true},
      {.name = "deepseek-r1-qwen", .patterns = qwen2},
      {.name = "stablelm2", .patterns = qwen2},
      {.name = "qwen35", .patterns = {kQwen35Split}, .normalizes = true},
      {.name = "tekken", .patterns = {kTekkenSplit}, .ignore_merges = true, .adds_bos = true},
      {.name = "gpt-4o", .patterns = {kGpt4oSplit}},
      {.name = "llama4", .patterns = {kGpt4oSplit}},
      {.name = "smollm", .patterns = digits},
      {.name = "starcoder", .patterns = digits},
      {.name = "refact", .patterns = digits},  // Granite's
      // llama.cpp's fallback; it corresponds to no tokenizer of Hugging Face.
      {.name = "default",
       .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Split, R"(\p{N}+)", "[0-9][0-9][0-9]"}}};
  return known;
}

}  // namespace knapsaq
