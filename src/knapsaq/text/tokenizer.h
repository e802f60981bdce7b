#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Text to token ids and back, with the ids that Hugging Face's tokenizers give.
class Tokenizer {
 public:
  /// Reads what a model folder has, the first of: tokenizer.json; vocab.json + merges.txt; tokenizer.model
  /// (SentencePiece, or Llama 3's tiktoken text); tokenizer_config.json, added_tokens.json and
  /// special_tokens_map.json complete it. Throws InputError if there is none or it is damaged.
  static Tokenizer load(const std::filesystem::path& folder);

  explicit Tokenizer(std::unique_ptr<class TokenizerModel> model);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of `text`. `add_special` puts what the tokenizer puts around a text by default (a BOS, usually or
  /// nothing). Invalid UTF-8 is read as U+FFFD, as Python's errors="replace" does.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;
  /// Text of ids; special tokens are left out if `skip_special`. Bytes that do not form UTF-8 become U+FFFD.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  std::int32_t vocabulary_size() const;     ///< largest id + 1
  std::optional<std::int32_t> bos() const;  ///< id of the BOS token if the tokenizer has one
  std::optional<std::int32_t> eos() const;
  bool adds_bos() const;  ///< whether encode(text, true) starts with bos()

 private:
  std::unique_ptr<TokenizerModel> model_;
};

}  // namespace knapsaq
