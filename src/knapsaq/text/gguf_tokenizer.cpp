#include "knapsaq/text/gguf_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/checkpoint/gguf_fields.h"
#include "knapsaq/text/gguf_pre_tokenizers.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";
/// All splits of a token are tried, so it must not be long; see sentencepiece_model.cpp.
constexpr std::size_t kLongestPiece = 1024;

/// llama.cpp's token types; SentencePiece has the same numbers.
enum TokenType : std::int8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

std::string with_metaspaces(std::string_view text) {
  std::string spelled;
  for (const char c : text) spelled += c == ' ' ? kMetaspace : std::string_view(&c, 1);
  return spelled;
}

class Reader {
 public:
  Reader(const GgufMetadata& metadata, const std::string& where, GgufReading reading)
      : fields_(metadata, where), where_(where), own_keys_(reading == GgufReading::knapsaq) {}

  TokenizerParts read() {
    const std::string model = fields_.required_text("tokenizer.ggml.model");
    if (model != "llama" && model != "gpt2" && model != "gemma4")
      fields_.fail("tokenizer.ggml.model",
                   fmt::format("is {}, which is not supported; supported are llama, gpt2 and gemma4",
                               in_quotes(model)));
    read_tokens();
    if (model == "llama") {
      sentencepiece();
    } else if (model == "gpt2") {
      byte_level();
    } else {
      merged_characters();
    }
    roles();
    return std::move(parts_);
  }

 private:
  void read_tokens() {
    texts_ = fields_.texts("tokenizer.ggml.tokens");
    if (texts_ == nullptr) fields_.fail("tokenizer.ggml.tokens", "is missing in the metadata");
    if (texts_->size() > static_cast<std::size_t>(Vocabulary::kLargestId))
      fields_.fail("tokenizer.ggml.tokens", "has too many tokens");
    const auto types = fields_.integers("tokenizer.ggml.token_type");
    if (types && types->size() != texts_->size())
      fields_.fail("tokenizer.ggml.token_type", "has not as many numbers as there are tokens");
    for (std::size_t id = 0; id < texts_->size(); ++id) {
      const std::int64_t type = types ? (*types)[id] : std::int64_t{normal};
      const std::string& text = (*texts_)[id];
      if (find_invalid_utf8(text) != text.size())
        fields_.fail("tokenizer.ggml.tokens", fmt::format("has a token {} that is not UTF-8", id));
      // A token without text cannot be meant, and 0 is "undefined".
      types_.push_back(text.empty()                     ? unused
                       : type >= normal && type <= byte ? static_cast<TokenType>(type)
                                                        : normal);
    }
  }

  bool is_added(std::size_t id) const {
    return types_[id] == control || types_[id] == unknown || types_[id] == user_defined;
  }

  /// All tokens in use, those that are parts of words first: an added token may be spelled like another one
  /// in the alphabet of bytes. With `metaspaces`, blanks of added tokens are spelled as in merges.
  Vocabulary vocabulary(bool metaspaces) const {
    Vocabulary found(where_, texts_->size());
    for (std::size_t id = 0; id < texts_->size(); ++id)
      if (types_[id] != unused && !is_added(id)) found.add((*texts_)[id], static_cast<std::int64_t>(id));
    for (std::size_t id = 0; id < texts_->size(); ++id) {
      if (!is_added(id)) continue;
      const std::string text = metaspaces ? with_metaspaces((*texts_)[id]) : (*texts_)[id];
      if (!found.find(text)) found.add(text, static_cast<std::int64_t>(id));
    }
    if (found.tokens() == 0) fields_.fail("tokenizer.ggml.tokens", "has no tokens");
    return found;
  }

  void add_tokens() {
    std::map<std::int64_t, std::int64_t> flags;
    const auto list =
        (own_keys_ ? fields_.integers(kGgufTokenFlags) : std::nullopt).value_or(std::vector<std::int64_t>());
    for (std::size_t i = 0; i + 1 < list.size(); i += 2) flags[list[i]] = list[i + 1];
    for (std::size_t id = 0; id < texts_->size(); ++id) {
      if (!is_added(id)) continue;
      const auto found = flags.find(static_cast<std::int64_t>(id));
      const auto has = [&](GgufTokenFlag flag) {
        return found != flags.end() && (found->second & static_cast<std::int64_t>(flag)) != 0;
      };
      std::string content = (*texts_)[id];
      // Searched for where blanks are spelled differently.
      if (has(GgufTokenFlag::verbatim)) content = with_metaspaces(content);
      parts_.added.push_back({.id = static_cast<std::int32_t>(id),
                              .content = std::move(content),
                              .special = types_[id] != user_defined,
                              .normalized = has(GgufTokenFlag::normalized),
                              .strip_left = has(GgufTokenFlag::strip_left),
                              .strip_right = has(GgufTokenFlag::strip_right),
                              .single_word = has(GgufTokenFlag::single_word),
                              .verbatim = has(GgufTokenFlag::verbatim)});
    }
  }

  std::vector<MergeRule> read_merges(const char* key, const Vocabulary& vocabulary) const {
    std::vector<MergeRule> merges;
    const std::vector<std::string>* lines = fields_.texts(key);
    if (lines == nullptr) return merges;
    for (const std::string& line : *lines) {
      // A token may begin with a blank in files of other programs, so the first one does not count.
      const std::size_t blank = line.find(' ', 1);
      if (blank == std::string::npos)
        fields_.fail(key, fmt::format("has an entry {} that is not two tokens", in_quotes(line)));
      merges.push_back(make_merge(std::string_view(line).substr(0, blank),
                                  std::string_view(line).substr(blank + 1), vocabulary, merges.size(),
                                  where_));
    }
    return merges;
  }

  void sentencepiece() {
    if (fields_.flag("tokenizer.ggml.remove_extra_whitespaces").value_or(false))
      fields_.fail("tokenizer.ggml.remove_extra_whitespaces", "is set, which is not supported");
    const std::vector<float>* scores = fields_.floats("tokenizer.ggml.scores");
    if (scores == nullptr || scores->size() != texts_->size())
      fields_.fail("tokenizer.ggml.scores", "is missing, or has not as many numbers as there are tokens");
    std::vector<std::int32_t> by_rank;
    std::size_t bytes = 0;
    std::optional<std::int32_t> unknown_id;
    for (std::size_t id = 0; id < texts_->size(); ++id) {
      if (std::isnan((*scores)[id])) fields_.fail("tokenizer.ggml.scores", "has something that is no number");
      if (types_[id] == byte) ++bytes;
      if (types_[id] == unknown) unknown_id = static_cast<std::int32_t>(id);
      if (types_[id] != normal) continue;
      if ((*texts_)[id].size() > kLongestPiece)
        fields_.fail("tokenizer.ggml.tokens", fmt::format("has a token {} of more than 1024 bytes", id));
      by_rank.push_back(static_cast<std::int32_t>(id));
    }
    std::ranges::stable_sort(by_rank, [&](std::int32_t a, std::int32_t b) {
      return (*scores)[static_cast<std::size_t>(a)] > (*scores)[static_cast<std::size_t>(b)];
    });
    Vocabulary tokens = vocabulary(true);
    const std::vector<MergeRule> merges = own_keys_ && fields_.texts(kGgufMerges) != nullptr
                                              ? read_merges(kGgufMerges, tokens)
                                              : merges_of_vocabulary(tokens, by_rank, true);
    const bool prefix = fields_.flag("tokenizer.ggml.add_space_prefix").value_or(true);
    blanks(prefix);
    parts_.decoder = sentencepiece_decoder(prefix);
    parts_.bpe = Bpe(std::move(tokens), merges,
                     {.byte_fallback = bytes > 0, .fuse_unknown = true, .unknown = unknown_id});
    parts_.scores = *scores;
    parts_.unknown = unknown_id;
    add_tokens();
    adds_bos_ = true;
  }

  /// SentencePiece's alphabet with merges of its own: "gemma4". llama.cpp cuts at ends of lines, over which
  /// no merge reaches.
  void merged_characters() {
    std::optional<std::int32_t> unknown_id;
    bool has_bytes = false;
    for (std::size_t id = 0; id < texts_->size(); ++id) {
      has_bytes = has_bytes || types_[id] == byte;
      if (types_[id] == unknown) unknown_id = static_cast<std::int32_t>(id);
    }
    Vocabulary tokens = vocabulary(true);
    const std::vector<MergeRule> merges = read_merges("tokenizer.ggml.merges", tokens);
    blanks(false);
    parts_.pre_tokenizer = PreTokenizer({split_step(R"([^\n]+|[\n]+)", where_)});
    parts_.decoder = sentencepiece_decoder(false);
    parts_.bpe = Bpe(std::move(tokens), merges,
                     {.byte_fallback = has_bytes, .fuse_unknown = true, .unknown = unknown_id});
    parts_.unknown = unknown_id;
    add_tokens();
    adds_bos_ = true;
  }

  /// llama.cpp puts the blank before every stretch of text between special tokens, like SentencePiece.
  void blanks(bool prefix) {
    const bool first = fields_.flag(kGgufFirstBlank).value_or(false);
    const std::string scheme = fields_.text(kGgufPrependScheme).value_or(first ? "first" : "");
    if (own_keys_ && (scheme == "first" || scheme == "always")) {
      PreTokenizerStep step;
      step.kind = PreTokenizerStep::Kind::kMetaspace;
      step.pattern = kMetaspace;
      step.prefix = scheme == "first" ? PreTokenizerStep::Prefix::kFirst : PreTokenizerStep::Prefix::kAlways;
      step.split = false;
      parts_.pre_tokenizer = PreTokenizer({step});
      return;
    }
    using Kind = NormalizerStep::Kind;
    std::vector<NormalizerStep> steps;
    if (prefix)
      steps.push_back(
          {.kind = Kind::kPrepend, .pattern = {}, .content = std::string(kMetaspace), .regex = {}});
    steps.push_back(
        {.kind = Kind::kReplace, .pattern = " ", .content = std::string(kMetaspace), .regex = {}});
    parts_.normalizer = Normalizer(std::move(steps));
  }

  void byte_level() {
    const std::string pre = fields_.text("tokenizer.ggml.pre").value_or("default");
    const auto known = gguf_pre_tokenizers();
    const auto found = std::ranges::find(known, pre, &GgufPreTokenizer::name);
    if (found == known.end()) {
      std::string names;
      for (const GgufPreTokenizer& one : known) names += (names.empty() ? "" : ", ") + std::string(one.name);
      fields_.fail(
          "tokenizer.ggml.pre",
          fmt::format("is {}, which is not a known pre-tokenizer; known are {}", in_quotes(pre), names));
    }
    std::vector<PreTokenizerStep> steps;
    for (const std::string_view pattern : found->patterns) steps.push_back(split_step(pattern, where_));
    append_byte_level(false, nullptr, where_, steps);
    parts_.pre_tokenizer = PreTokenizer(std::move(steps));
    if (own_keys_ && fields_.flag(kGgufNfc).value_or(found->normalizes))
      parts_.normalizer =
          Normalizer({{.kind = NormalizerStep::Kind::kNfc, .pattern = {}, .content = {}, .regex = {}}});
    parts_.decoder = {{.kind = DecoderStep::Kind::kByteLevel, .pattern = {}, .content = {}}};
    Vocabulary tokens = vocabulary(false);
    const std::vector<MergeRule> merges = read_merges("tokenizer.ggml.merges", tokens);
    parts_.bpe = Bpe(std::move(tokens), merges,
                     {.byte_level = true, .ignore_merges = found->ignore_merges, .unknown = {}});
    add_tokens();
    adds_bos_ = found->adds_bos;
  }

  std::optional<std::int32_t> role(const char* name) const {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    const auto id = fields_.integer(key);
    if (!id) return std::nullopt;
    // Old converters wrote 2^32 - 1, or -1, for "none".
    if (*id == 0xFFFFFFFF || *id == -1) return std::nullopt;
    if (*id < 0 || *id >= std::ssize(*texts_)) fields_.fail(key, "is not the number of a token");
    return static_cast<std::int32_t>(*id);
  }

  void roles() {
    parts_.bos = role("bos");
    parts_.eos = role("eos");
    parts_.pad = role("padding");
    if (const auto id = role("unknown")) parts_.unknown = id;
    if (fields_.flag("tokenizer.ggml.add_bos_token").value_or(adds_bos_) && parts_.bos)
      parts_.before = {*parts_.bos};
    if (fields_.flag("tokenizer.ggml.add_eos_token").value_or(false) && parts_.eos)
      parts_.after = {*parts_.eos};
  }

  GgufFields fields_;
  const std::string& where_;
  bool own_keys_;  ///< whether Knapsaq's keys are read
  const std::vector<std::string>* texts_ = nullptr;
  std::vector<TokenType> types_;
  bool adds_bos_ = false;
  TokenizerParts parts_;
};

}  // namespace

TokenizerParts read_gguf_tokenizer(const GgufMetadata& metadata, const std::string& where,
                                   GgufReading reading) {
  return Reader(metadata, where, reading).read();
}

std::optional<std::string> gguf_chat_template(const std::filesystem::path& path) {
  const GgufFile file(path);
  const std::string where = path.string();
  return GgufFields(file.metadata(), where).text("tokenizer.chat_template");
}

}  // namespace knapsaq
