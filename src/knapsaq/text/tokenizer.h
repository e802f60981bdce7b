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

/// A part of a text that combines known text with text that somebody typed.
struct TextPart {
  std::string text;
  bool foreign = false;  ///< typed text: special tokens that it spells are ordinary text
};

/// Converts text to token ids and back, with the ids of Hugging Face's tokenizers (byte-pair encoding only).
/// Const functions may be called from several threads at the same time.
class Tokenizer {
 public:
  /// Reads the tokenizer of a model folder from the first of these that exists: tokenizer.json; vocab.json +
  /// merges.txt (GPT-2, OPT, GPT-NeoX, Qwen2; also under OPT's own names gpt2-vocab.json + gpt2-merges.txt);
  /// tokenizer.model (SentencePiece's BPE as in Llama 2 and Mistral, or Llama 3's tiktoken text).
  /// tokenizer_config.json, special_tokens_map.json and added_tokens.json complete it, and config.json if no
  /// file names a BOS and an EOS. For a GGUF file, reads its metadata (gguf_tokenizer.h).
  ///
  /// Special tokens around a text. With a tokenizer.json: those of its post-processor's template, and none
  /// without one. add_bos_token and add_eos_token of tokenizer_config.json are not read, as in Transformers 5
  /// (5.0 to 5.24; in Transformers 4, Llama's class and those derived from it replaced the file's template
  /// with one made from these two). Without a tokenizer.json: add_bos_token and add_eos_token. If these are
  /// absent, a BOS for every tokenizer.model and for OPT, as in Transformers 4 and llama.cpp (Transformers 5
  /// adds none), and nothing else.
  ///
  /// All parts of a tokenizer.json are used unchanged, with one exception: the classes that Transformers 5
  /// builds from the vocabulary and merges alone, with steps of their own. These are GPT2Tokenizer and
  /// Qwen2Tokenizer (byte-level files) and LlamaTokenizer (others), as named by tokenizer_config.json and
  /// decided by config.json's model_type.
  ///
  /// A lone tokenizer.model of SentencePiece is read as by Transformers 5. If tokenizer_config.json names
  /// LlamaTokenizer (and config.json is not Mistral's), a blank is put before the first stretch of text, or
  /// with `"legacy": true` before every stretch between added tokens, unless it already starts with one;
  /// user-defined symbols are added tokens. (In Transformers 4, "legacy" was the default, and the blank was
  /// added in any case.) Otherwise it is read as by the library itself: a blank before every stretch between
  /// special tokens, and user-defined symbols are part of it, without a blank after them.
  ///
  /// Throws InputError, naming the file, if there is no tokenizer, if it is damaged, or if it has an
  /// unsupported component, with that component's name.
  static Tokenizer load(const std::filesystem::path& path);

  explicit Tokenizer(std::unique_ptr<TokenizerModel> model);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of `text`, at most 2 GiB. `add_special` adds the special tokens that the tokenizer puts around a
  /// text by default. Special tokens spelled in the text are recognised, as Hugging Face's tokenizers do by
  /// default. Invalid UTF-8 is read as U+FFFD, like Python's errors="replace". Throws InputError if a regular
  /// expression of the tokenizer exceeds its step limit on this text.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;
  /// Ids of a text in parts, without special tokens around it. A special token is not recognised where
  /// foreign text spells it or a part of it. Without such spellings, the result is encode() of the whole
  /// text.
  std::vector<std::int32_t> encode(std::span<const TextPart> parts) const;
  /// Text of ids. Special tokens are omitted if `skip_special`, ids without a token always. Bytes that do not
  /// form UTF-8 become U+FFFD. There is no clean-up (Transformers' clean_up_tokenization_spaces).
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  std::int32_t vocabulary_size() const;  ///< largest id + 1
  /// The ids below that without a token: rows of an embedding that nothing was trained for. Ascending.
  std::vector<std::int32_t> unused_ids() const;
  std::optional<std::int32_t> bos() const;  ///< id of the BOS token if the tokenizer has one
  std::optional<std::int32_t> eos() const;
  /// The tokenizer's parts, for writing it in another format.
  const TokenizerModel& model() const { return *model_; }
  bool adds_bos() const;  ///< whether encode(text, true) starts with bos()

 private:
  std::unique_ptr<TokenizerModel> model_;
};

}  // namespace knapsaq
