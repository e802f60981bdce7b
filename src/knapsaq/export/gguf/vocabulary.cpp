#include "knapsaq/export/gguf/vocabulary.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/text/chat_template.h"
#include "knapsaq/text/decoder_steps.h"
#include "knapsaq/text/gguf_pre_tokenizers.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// llama.cpp's token types; SentencePiece has the same numbers.
enum TokenType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

[[noreturn]] void refuse(const fs::path& folder, const std::string& what) {
  throw InputError(fmt::format("{}: GGUF has no form for this tokenizer: {}", folder.string(), what));
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;
};

/// Whether `token` is "<0x00>".."<0xFF>".
bool is_byte_token(std::string_view token) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
         kDigits.find(token[3]) != std::string_view::npos && kDigits.find(token[4]) != std::string_view::npos;
}

Tokens read_tokens(const fs::path& folder, const TokenizerModel& model, std::int64_t vocab) {
  const TokenizerParts& parts = model.parts();
  if (model.vocabulary_size() > vocab)
    throw InputError(
        fmt::format("{}: the tokenizer has {} tokens, but the model's embedding only {}; they do not "
                    "belong together",
                    folder.string(), model.vocabulary_size(), vocab));
  const Vocabulary& vocabulary = parts.bpe.vocabulary();
  Tokens tokens;
  for (std::int32_t id = 0; id < vocab; ++id) {
    const bool known = vocabulary.contains(id);
    tokens.texts.push_back(known ? std::string(vocabulary.token(id)) : fmt::format("[PAD{}]", id));
    const bool is_byte = known && parts.bpe.options().byte_fallback && is_byte_token(tokens.texts.back());
    tokens.types.push_back(!known ? unused : is_byte ? byte : normal);
  }
  for (const AddedToken& token : parts.added) {
    std::string text = token.content;
    if (!token.special) {
      // llama.cpp searches for these in the original text.
      for (std::size_t at = text.find(kMetaspace); at != std::string::npos; at = text.find(kMetaspace, at))
        text.replace(at, kMetaspace.size(), 1, ' ');
    }
    tokens.texts[static_cast<std::size_t>(token.id)] = std::move(text);
    tokens.types[static_cast<std::size_t>(token.id)] = token.special ? control : user_defined;
  }
  return tokens;
}

/// Whether every match is a piece, and there is nothing between matches that would be another one.
bool splits_at_matches(const PreTokenizerStep& step) {
  using Behaviour = PreTokenizerStep::Behaviour;
  if (step.kind != PreTokenizerStep::Kind::kSplit || !step.regex) return false;
  // The second way is that of the tokenizers made of tiktoken's files, whose expressions match everything.
  return (step.behaviour == Behaviour::kIsolated && !step.invert) ||
         (step.behaviour == Behaviour::kRemoved && step.invert);
}

/// Whether the merges make every token of the vocabulary from its text, so that it is the same whether they
/// are ignored for a piece that is a token.
bool merges_reach_all(const TokenizerParts& parts) {
  BpeOptions options = parts.bpe.options();
  options.ignore_merges = false;
  const Vocabulary& vocabulary = parts.bpe.vocabulary();
  const Bpe merging(vocabulary, parts.bpe.merges(), options);
  std::set<std::int32_t> added;
  for (const AddedToken& token : parts.added) added.insert(token.id);
  BpeScratch scratch;
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.contains(id) || added.contains(id)) continue;
    ids.clear();
    merging.encode(byte_level_bytes(std::string(vocabulary.token(id))), scratch, ids);
    if (ids != std::vector{id}) return false;
  }
  return true;
}

std::string_view pre_tokenizer_name(const fs::path& folder, const TokenizerParts& parts) {
  using Kind = PreTokenizerStep::Kind;
  std::vector<std::string_view> patterns;
  for (const PreTokenizerStep& step : parts.pre_tokenizer.steps()) {
    if (step.kind == Kind::kByteLevel) continue;
    if (!splits_at_matches(step))
      refuse(folder,
             "it puts a blank in front of text, or splits text otherwise than at matches of expressions");
    patterns.push_back(step.regex->pattern());
  }
  for (const NormalizerStep& step : parts.normalizer.steps()) {
    // llama.cpp and its own converters ignore NFC: nearly all text is in that form.
    if (step.kind != NormalizerStep::Kind::kNfc) refuse(folder, "it changes text before cutting it");
  }
  const GgufPreTokenizer* other = nullptr;  // the same but for this
  for (const GgufPreTokenizer& known : gguf_pre_tokenizers()) {
    if (known.patterns != patterns) continue;
    if (known.ignore_merges == parts.bpe.options().ignore_merges) return known.name;
    if (other == nullptr) other = &known;
  }
  if (other != nullptr && merges_reach_all(parts)) return other->name;
  refuse(folder, fmt::format("llama.cpp knows no pre-tokenizer that splits at {}{}",
                             patterns.empty() ? std::string("nothing") : in_quotes(patterns.back()),
                             parts.bpe.options().ignore_merges ? " and ignores merges" : ""));
}

/// The merges as GGUF writes them.
std::vector<std::string> merge_texts(const TokenizerParts& parts) {
  const Vocabulary& vocabulary = parts.bpe.vocabulary();
  std::vector<std::string> merges;
  for (const MergeRule& merge : parts.bpe.merges())
    merges.push_back(fmt::format("{} {}", vocabulary.token(merge.left), vocabulary.token(merge.right)));
  return merges;
}

void add_byte_level(const fs::path& folder, const TokenizerParts& parts, Tokens tokens,
                    GgufMetadata& metadata) {
  std::vector<std::string> merges = merge_texts(parts);
  metadata.add("tokenizer.ggml.model", "gpt2");
  metadata.add("tokenizer.ggml.pre", std::string(pre_tokenizer_name(folder, parts)));
  // pre_tokenizer_name() has refused all other changes of text.
  metadata.add(kGgufNfc, !parts.normalizer.empty());
  metadata.add("tokenizer.ggml.tokens", GgufArray(std::move(tokens.texts)));
  metadata.add("tokenizer.ggml.token_type", GgufArray(std::move(tokens.types)));
  if (!merges.empty()) metadata.add("tokenizer.ggml.merges", GgufArray(std::move(merges)));
}

/// When a SentencePiece tokenizer adds a leading blank.
enum class Blank : std::uint8_t {
  never,
  always,   ///< before every stretch between special tokens, like llama.cpp
  missing,  ///< the same, unless it already starts with one
  first,    ///< before the whole text, unless it already starts with one
};

Blank blank_of(const fs::path& folder, const TokenizerParts& parts) {
  using Step = PreTokenizerStep;
  bool replaces = false;
  Blank blank = Blank::never;
  for (const NormalizerStep& step : parts.normalizer.steps()) {
    if (step.kind == NormalizerStep::Kind::kPrepend && step.content == kMetaspace) {
      blank = Blank::always;
    } else if (step.kind == NormalizerStep::Kind::kReplace && step.pattern == " " &&
               step.content == kMetaspace) {
      replaces = true;
    } else {
      refuse(folder, "it changes text before cutting it");
    }
  }
  for (const Step& step : parts.pre_tokenizer.steps()) {
    // Gemma's: there are no blanks any more.
    if (step.kind == Step::Kind::kSplit && step.pattern == " " && replaces) continue;
    if (step.kind != Step::Kind::kMetaspace || step.pattern != kMetaspace || step.split || replaces)
      refuse(folder, "it splits text before merging, otherwise than SentencePiece does");
    replaces = true;
    if (step.prefix == Step::Prefix::kAlways) blank = Blank::missing;
    if (step.prefix == Step::Prefix::kFirst) blank = Blank::first;
  }
  if (!replaces || !parts.bpe.options().byte_fallback)
    refuse(folder, "it is neither byte-level nor of SentencePiece's kind with byte tokens");
  // llama.cpp fails at the first character that is neither in the vocabulary nor has byte tokens.
  for (int byte = 0; byte < 256; ++byte)
    if (!parts.bpe.vocabulary().find(fmt::format("<0x{:02X}>", byte)))
      refuse(folder,
             fmt::format("it has no token <0x{:02X}> for a byte, without which llama.cpp fails", byte));
  return blank;
}

/// llama.cpp merges the pair whose result has the highest score. Scores that decrease with the rank of a
/// result's first merge make it follow the merges. SentencePiece's own scores are these numbers too.
std::vector<float> scores_of_merges(const TokenizerParts& parts, const Tokens& tokens) {
  std::vector<float> scores(tokens.texts.size(), 0.0F);
  std::vector<bool> scored(scores.size(), false);
  float next = 0;
  const auto score = [&](std::size_t id) {
    if (scored[id] || tokens.types[id] != normal) return;
    scored[id] = true;
    scores[id] = next;
    next -= 1;
  };
  for (const MergeRule& merge : parts.bpe.merges()) score(static_cast<std::size_t>(merge.result));
  for (std::size_t id = 0; id < scores.size(); ++id) score(id);
  return scores;
}

/// Whether these scores imply the tokenizer's merges.
bool implied(const TokenizerParts& parts, const Tokens& tokens, const std::vector<float>& scores) {
  std::vector<std::int32_t> by_rank;
  for (std::size_t id = 0; id < scores.size(); ++id)
    if (tokens.types[id] == normal) by_rank.push_back(static_cast<std::int32_t>(id));
  std::ranges::stable_sort(by_rank, [&](std::int32_t a, std::int32_t b) {
    return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
  });
  return std::ranges::equal(merges_of_vocabulary(parts.bpe.vocabulary(), by_rank, true), parts.bpe.merges(),
                            [](const MergeRule& a, const MergeRule& b) {
                              return a.left == b.left && a.right == b.right && a.result == b.result;
                            });
}

/// Whether a merge joins the end of a line with something else.
bool merges_over_lines(const TokenizerParts& parts) {
  return std::ranges::any_of(parts.bpe.merges(), [&](const MergeRule& merge) {
    const std::string_view token = parts.bpe.vocabulary().token(merge.result);
    return token.find('\n') != std::string_view::npos &&
           token.find_first_not_of('\n') != std::string_view::npos;
  });
}

void add_sentencepiece(const fs::path& folder, const TokenizerParts& parts, Tokens tokens,
                       GgufMetadata& metadata, std::vector<std::string>& notes) {
  const Blank blank = blank_of(folder, parts);
  if (blank == Blank::missing)
    notes.emplace_back(
        "tokenizer: llama.cpp puts a blank in front of text also where one stands already; this tokenizer "
        "does "
        "not");
  if (blank == Blank::first)
    notes.emplace_back(
        "tokenizer: llama.cpp puts a blank in front of text behind every special token and of text that "
        "begins with "
        "one; this tokenizer does so only in front of a first text without");
  if (const auto id = parts.bpe.options().unknown) tokens.types[static_cast<std::size_t>(*id)] = unknown;
  std::vector<float> scores = parts.scores;
  if (scores.empty()) scores = scores_of_merges(parts, tokens);
  scores.resize(tokens.texts.size(), 0.0F);
  std::vector<std::string> merges = merge_texts(parts);
  const bool by_scores = merges.empty() || implied(parts, tokens, scores);
  // llama.cpp's code for Gemma 4 follows merges; it always begins with a BOS, and never with a blank.
  const bool by_merges =
      !by_scores && blank == Blank::never && !parts.before.empty() && !merges_over_lines(parts);
  metadata.add("tokenizer.ggml.model", by_merges ? "gemma4" : "llama");
  metadata.add("tokenizer.ggml.pre", by_merges ? "gemma4" : "default");
  if (!by_scores)
    metadata.add(by_merges ? "tokenizer.ggml.merges" : kGgufMerges, GgufArray(std::move(merges)));
  metadata.add("tokenizer.ggml.tokens", GgufArray(std::move(tokens.texts)));
  metadata.add("tokenizer.ggml.scores", GgufArray(std::move(scores)));
  metadata.add("tokenizer.ggml.token_type", GgufArray(std::move(tokens.types)));
  metadata.add("tokenizer.ggml.add_space_prefix", blank != Blank::never);
  if (blank == Blank::first) metadata.add(kGgufPrependScheme, "first");
  if (blank == Blank::missing) metadata.add(kGgufPrependScheme, "always");
}

/// The ids of added tokens with flags, each followed by their sum.
std::vector<std::int32_t> token_flags(const TokenizerParts& parts) {
  std::vector<std::int32_t> flags;
  for (const AddedToken& token : parts.added) {
    std::int32_t sum = 0;
    const auto add = [&](bool set, GgufTokenFlag flag) {
      if (set) sum += static_cast<std::int32_t>(flag);
    };
    add(token.normalized && !parts.normalizer.empty(), GgufTokenFlag::normalized);
    add(token.strip_left, GgufTokenFlag::strip_left);
    add(token.strip_right, GgufTokenFlag::strip_right);
    add(token.single_word, GgufTokenFlag::single_word);
    add(token.verbatim, GgufTokenFlag::verbatim);
    if (sum != 0) flags.insert(flags.end(), {token.id, sum});
  }
  return flags;
}

}  // namespace

namespace {

/// The rule for tokenizers in GGUF: read back from the metadata, Knapsaq must give the source's ids for all
/// trial texts. llama.cpp, which ignores Knapsaq's additions, must give them at least for all ordinary texts;
/// for others, a note reports differences.
void check_ids(const fs::path& folder, const TokenizerModel& source, const GgufMetadata& metadata,
               std::vector<std::string>& notes) {
  const std::vector<TrialText> texts = trial_texts(source.parts());
  const std::string where = folder.string();
  const auto reread = [&](GgufReading reading) {
    return compare_tokenizers(source, TokenizerModel(read_gguf_tokenizer(metadata, where, reading)), texts);
  };
  const TokenizerDifference own = reread(GgufReading::knapsaq);
  if (!own.none())
    refuse(folder, "the file's ids would differ for " +
                       describe(own.ordinary.empty() ? own.unusual : own.ordinary, own.texts));
  const TokenizerDifference other = reread(GgufReading::llama_cpp);
  if (!other.ordinary.empty())
    refuse(folder, "llama.cpp would give other ids for " + describe(other.ordinary, other.texts));
  if (!other.unusual.empty())
    notes.push_back(fmt::format("tokenizer: llama.cpp gives other ids than this model's own tokenizer for {}",
                                describe(other.unusual, other.texts)));
}

/// As gguf-py writes them, whose names consist of ASCII letters and digits.
void add_named_templates(const fs::path& folder, GgufMetadata& metadata) {
  std::map<std::string, std::string> templates;
  for (auto& [name, text] : named_chat_templates(folder)) {
    std::string plain = name;
    for (char& c : plain)
      if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) c = '_';
    templates.emplace(std::move(plain), text);
  }
  std::vector<std::string> names;
  for (auto& [name, text] : templates) {
    metadata.add("tokenizer.chat_template." + name, std::move(text));
    names.push_back(name);
  }
  if (!names.empty()) metadata.add("tokenizer.chat_templates", GgufArray(std::move(names)));
}

/// The tokens that end a text besides the EOS. llama.cpp has two more keys for them, and recognises some by
/// name.
void add_ends(const TokenizerModel& model, std::span<const std::int32_t> ends,
              std::optional<std::int32_t> eos, GgufMetadata& metadata, std::vector<std::string>& notes) {
  std::vector<std::int32_t> more;
  for (const std::int32_t id : ends)
    if (id != eos && model.token_text(id, false)) more.push_back(id);
  // Llama 3's <|eom_id|> ends a message, not a turn.
  // (Not std::ranges::stable_partition(): what it returns does not compile with clang 14 and GCC 12's
  // library.)
  std::stable_partition(more.begin(), more.end(), [&](std::int32_t id) {
    return model.token_text(id, false)->find("eom") == std::string_view::npos;
  });
  constexpr std::array kKeys{"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  for (std::size_t i = 0; i < std::min(more.size(), kKeys.size()); ++i)
    metadata.add(kKeys[i], static_cast<std::uint32_t>(more[i]));
  if (more.size() <= kKeys.size()) return;
  std::string names;
  for (const std::int32_t id : std::span(more).subspan(kKeys.size()))
    names += (names.empty() ? "" : ", ") + in_quotes(*model.token_text(id, false));
  notes.push_back(
      fmt::format("tokenizer: GGUF has places for three tokens that end a text; {} of {} have none: {}",
                  more.size() - kKeys.size(), ends.size(), names));
}

}  // namespace

void add_vocabulary(const fs::path& folder, std::int64_t vocab, GgufMetadata& metadata,
                    std::vector<std::string>& notes) {
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const TokenizerParts& parts = tokenizer.model().parts();
  Tokens tokens = read_tokens(folder, tokenizer.model(), vocab);
  if (parts.pre_tokenizer.byte_level()) {
    add_byte_level(folder, parts, std::move(tokens), metadata);
  } else {
    add_sentencepiece(folder, parts, std::move(tokens), metadata, notes);
  }
  if (std::vector<std::int32_t> flags = token_flags(parts); !flags.empty())
    metadata.add(kGgufTokenFlags, GgufArray(std::move(flags)));
  const auto role = [&](const char* name, std::optional<std::int32_t> id) {
    if (id) metadata.add(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<std::uint32_t>(*id));
  };
  role("bos", parts.bos);
  const std::vector<std::int32_t> ends = ends_of_text(folder, parts.eos);
  // A model may state in config.json only what ends a text.
  const std::optional<std::int32_t> eos = parts.eos || ends.empty() ? parts.eos : ends.front();
  role("eos", eos);
  role("unknown", parts.unknown);
  role("padding", parts.pad);
  // Without these keys, llama.cpp assumes the usual behaviour of this kind of vocabulary.
  const bool adds_eos = !parts.after.empty() && parts.eos == parts.after.back();
  if (parts.before.size() > (tokenizer.adds_bos() ? 1U : 0U) || parts.after.size() > (adds_eos ? 1U : 0U))
    refuse(folder, "it puts more around a text than a beginning and an end");
  metadata.add("tokenizer.ggml.add_bos_token", tokenizer.adds_bos());
  metadata.add("tokenizer.ggml.add_eos_token", adds_eos);
  if (auto found = find_chat_template(folder))
    metadata.add("tokenizer.chat_template", std::move(found->text));
  add_named_templates(folder, metadata);
  add_ends(tokenizer.model(), ends, eos, metadata, notes);
  check_ids(folder, tokenizer.model(), metadata, notes);
}

}  // namespace knapsaq
