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

class TokenizerModel;

/// A piece of a text that was put together from what is known and what somebody typed.
struct TextPart {
  std::string text;
  bool foreign = false;  ///< typed by somebody: special tokens that it spells are not meant
};

/// Text to token ids and back, with the ids that Hugging Face's tokenizers give (byte-pair encoding only).
/// Const functions may be called from several threads at once.
class Tokenizer {
 public:
  /// Reads what a model folder has, the first of: tokenizer.json; vocab.json + merges.txt (GPT-2, OPT,
  /// GPT-NeoX, Qwen2; also under OPT's own names gpt2-vocab.json + gpt2-merges.txt); tokenizer.model
  /// (SentencePiece's BPE as in Llama 2 and Mistral, or Llama 3's tiktoken text). tokenizer_config.json,
  /// special_tokens_map.json and added_tokens.json complete it, and config.json where no file names a BOS and
  /// an EOS. Of a GGUF file, what its metadata say (gguf_tokenizer.h).
  ///
  /// What stands around a text. With a tokenizer.json: the template of its post-processor, and nothing
  /// without one; add_bos_token and add_eos_token of tokenizer_config.json are not read, as in Transformers 5
  /// (5.0 to 5.24; in Transformers 4 the classes of Llama, and of what descends from it, put a template of
  /// these two over that of the file). Without a tokenizer.json: add_bos_token and add_eos_token; where they
  /// are absent, a BOS for every tokenizer.model and for OPT, as in Transformers 4 and llama.cpp
  /// (Transformers 5 puts none), and nothing else.
  ///
  /// Of a tokenizer.json all parts are taken as they are, but for the classes that Transformers 5 makes of
  /// its vocabulary and merges alone, with steps of their own: GPT2Tokenizer and Qwen2Tokenizer (byte-level
  /// files), LlamaTokenizer (others), as tokenizer_config.json names them and config.json's model_type
  /// decides.
  ///
  /// A lone tokenizer.model of SentencePiece's is read as Transformers 5 does. Where tokenizer_config.json
  /// names LlamaTokenizer (and config.json is not Mistral's), a blank goes in front of the first stretch of
  /// text, or with `"legacy": true` of every stretch between added tokens, unless one stands there;
  /// user-defined symbols are added tokens. (In Transformers 4 "legacy" was the default, and a blank stood
  /// there in any case.) Otherwise as the library itself: a blank in front of every stretch between special
  /// tokens, and user-defined symbols are parts of it, with no blank behind them.
  ///
  /// Throws InputError, naming the file, if there is no tokenizer, if it is damaged, or if it has a component
  /// that is not supported, with that component's name.
  static Tokenizer load(const std::filesystem::path& path);

  explicit Tokenizer(std::unique_ptr<TokenizerModel> model);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of `text`, at most 2 GiB. `add_special` puts what the tokenizer puts around a text by default.
  /// Special tokens spelled in the text are recognised, as Hugging Face's tokenizers do by default. Invalid
  /// UTF-8 is read as U+FFFD, as Python's errors="replace" does. Throws InputError if a regular expression of
  /// the tokenizer runs away on this text.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;
  /// Ids of a text that comes in parts, with nothing around it. A special token is not recognised where
  /// foreign text spells it, or a part of it; without such spellings it is encode() of the whole text.
  std::vector<std::int32_t> encode(std::span<const TextPart> parts) const;
  /// Text of ids; special tokens are left out if `skip_special`, ids without a token always. Bytes that do
  /// not form UTF-8 become U+FFFD. Nothing is cleaned up (Transformers' clean_up_tokenization_spaces).
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  std::int32_t vocabulary_size() const;     ///< largest id + 1
  std::optional<std::int32_t> bos() const;  ///< id of the BOS token if the tokenizer has one
  std::optional<std::int32_t> eos() const;
  /// The parts it is made of, for writing it in another format.
  const TokenizerModel& model() const { return *model_; }
  bool adds_bos() const;  ///< whether encode(text, true) starts with bos()

 private:
  std::unique_ptr<TokenizerModel> model_;
};

}  // namespace knapsaq
