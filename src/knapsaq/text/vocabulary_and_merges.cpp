// vocab.json and merges.txt, and the parts that tokenizer.json shares with them.

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/json_reader.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

std::vector<MergeRule> read_merges_text(std::string_view text, const Vocabulary& vocabulary,
                                        const std::string& where) {
  if (find_invalid_utf8(text) != text.size()) throw InputError(where + ": not UTF-8; the file is damaged");
  std::vector<MergeRule> merges;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
      throw InputError(fmt::format(
          "{}: line {} is not two tokens with a blank between them; the file is damaged", where, number));
    }
    merges.push_back(
        make_merge(line.substr(0, blank), line.substr(blank + 1), vocabulary, merges.size(), where));
  }
  return merges;
}

/// The steps of a Transformers class before byte-pair encoding.
struct ClassRules {
  bool normalize = false;
  const char* split = kGpt2Split;
};

ClassRules rules_of(const std::string& name, const std::string& where) {
  if (name.empty() || name == "GPT2Tokenizer") return {};
  if (name == "GPTNeoXTokenizer") return {.normalize = true, .split = kGpt2Split};
  if (name == "Qwen2Tokenizer") return {.normalize = true, .split = kQwen2Split};
  throw InputError(fmt::format(
      "{}: how {} splits text is not known; save the tokenizer as tokenizer.json (save_pretrained of "
      "its fast version)",
      where, in_quotes(name)));
}

/// Roles of Transformers' classes if no file states them.
TokenizerSettings with_default_roles(TokenizerSettings settings, const Vocabulary& vocabulary) {
  if (!settings.special.empty() || settings.bos_id || settings.eos_id) return settings;
  const auto known = [&](const char* token) { return vocabulary.find(token).has_value(); };
  if (settings.model_type == "opt" && known("</s>")) {
    settings.bos = settings.eos = "</s>";
    settings.special = {"</s>"};
    if (known("<pad>")) settings.special.emplace_back("<pad>");
    if (!settings.add_bos) settings.add_bos = true;
  } else if (known("<|endoftext|>")) {
    settings.bos = settings.eos = "<|endoftext|>";
    settings.special = {"<|endoftext|>"};
  }
  return settings;
}

}  // namespace

Vocabulary read_vocabulary(const nlohmann::json& entries, const std::string& where) {
  Vocabulary vocabulary(where, entries.size());
  for (const auto& [token, id] : entries.items()) {
    if (!id.is_number_integer()) {
      throw InputError(fmt::format("{}: the id of token {} is not an integer; the file is damaged", where,
                                   in_quotes(token)));
    }
    vocabulary.add(token, id.get<std::int64_t>());
  }
  if (vocabulary.tokens() == 0) throw InputError(where + ": the vocabulary is empty; the file is damaged");
  return vocabulary;
}

MergeRule make_merge(std::string_view left, std::string_view right, const Vocabulary& vocabulary,
                     std::size_t rank, const std::string& where) {
  const auto id_of = [&](std::string_view token) {
    const auto id = vocabulary.find(token);
    if (id) return *id;
    throw InputError(fmt::format(
        "{}: merge {} needs the token {}, which the vocabulary lacks; vocabulary and merges do not "
        "belong together",
        where, rank, in_quotes(token)));
  };
  const std::string result = std::string(left) + std::string(right);
  return {.left = id_of(left),
          .right = id_of(right),
          .result = id_of(result),
          .rank = static_cast<std::uint32_t>(rank)};
}

TokenizerParts read_vocabulary_and_merges(std::string_view vocabulary_json, std::string_view merges_text,
                                          const TokenizerSettings& given, const std::string& vocabulary_where,
                                          const std::string& merges_where) {
  Vocabulary vocabulary =
      read_vocabulary(parse_json_object(vocabulary_json, vocabulary_where), vocabulary_where);
  const std::vector<MergeRule> merges = read_merges_text(merges_text, vocabulary, merges_where);
  // A tokenizer of more than single bytes has merges; a truncated, empty file must not pass for one.
  if (merges.empty()) throw InputError(merges_where + ": no merges; the file is damaged");
  const TokenizerSettings settings = with_default_roles(given, vocabulary);
  const ClassRules rules = rules_of(settings.tokenizer_class, vocabulary_where);

  TokenizerParts parts;
  if (rules.normalize)
    parts.normalizer =
        Normalizer({{.kind = NormalizerStep::Kind::kNfc, .pattern = {}, .content = {}, .regex = {}}});
  std::vector<PreTokenizerStep> steps;
  const bool prefix_space = settings.add_prefix_space.value_or(false);
  // Qwen2 puts the blank before every piece, the others before the text, as their tokenizer.json files state.
  const bool prefix_pieces = rules.split == kQwen2Split;
  if (prefix_pieces) steps.push_back(split_step(rules.split, vocabulary_where));
  append_byte_level(prefix_space, prefix_pieces ? nullptr : rules.split, vocabulary_where, steps);
  parts.pre_tokenizer = PreTokenizer(std::move(steps));
  parts.decoder = {{.kind = DecoderStep::Kind::kByteLevel, .pattern = {}, .content = {}}};
  parts.bpe = Bpe(std::move(vocabulary), merges, {.byte_level = true, .unknown = {}});
  apply_settings(settings, true, false, parts, vocabulary_where);
  return parts;
}

}  // namespace knapsaq
