#include "knapsaq/text/tokenizer_readers.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/json_reader.h"

namespace knapsaq {
namespace {

/// Id of a text among the added tokens and the vocabulary.
std::optional<std::int32_t> find_token(const TokenizerParts& parts, const std::string& content) {
  const auto found = std::find_if(parts.added.begin(), parts.added.end(),
                                  [&](const AddedToken& token) { return token.content == content; });
  if (found != parts.added.end()) return found->id;
  return parts.bpe.vocabulary().find(content);
}

/// The id after the last one.
std::int32_t next_id(const TokenizerParts& parts) {
  std::int32_t next = parts.bpe.vocabulary().size();
  for (const AddedToken& token : parts.added) next = std::max(next, token.id + 1);
  return next;
}

}  // namespace

const char* const kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen35Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::int32_t checked_id(std::int64_t id, const std::string& where) {
  if (id < 0 || id > Vocabulary::kLargestId) {
    throw InputError(fmt::format("{}: the token id {} is not in 0..{}; the file is damaged", where, id,
                                 Vocabulary::kLargestId));
  }
  return static_cast<std::int32_t>(id);
}

AddedToken read_added_token(const nlohmann::json& json, std::int64_t id, const std::string& where) {
  if (!json.is_object()) throw InputError(where + ": an added token is not an object; the file is damaged");
  AddedToken token;
  token.id = checked_id(id, where);
  token.content = required_string(json, "content", where);
  token.special = optional_bool(json, "special", where).value_or(false);
  token.normalized = optional_bool(json, "normalized", where).value_or(!token.special);
  token.strip_left = optional_bool(json, "lstrip", where).value_or(false);
  token.strip_right = optional_bool(json, "rstrip", where).value_or(false);
  token.single_word = optional_bool(json, "single_word", where).value_or(false);
  return token;
}

void add_token(const AddedToken& token, TokenizerParts& parts, const std::string& where) {
  const Vocabulary& vocabulary = parts.bpe.vocabulary();
  const auto known = vocabulary.find(token.content);
  if (known && *known != token.id) {
    throw InputError(fmt::format(
        "{}: the added token {} has the id {}, but the vocabulary gives it {}; the files do not belong "
        "together",
        where, in_quotes(token.content), token.id, *known));
  }
  if (!known && vocabulary.contains(token.id)) {
    throw InputError(fmt::format(
        "{}: the added token {} has the id {}, which is that of {} in the vocabulary; the files do "
        "not belong together",
        where, in_quotes(token.content), token.id, in_quotes(vocabulary.token(token.id))));
  }
  parts.added.push_back(token);
}

void check_added_tokens(const TokenizerParts& parts, const std::string& where) {
  std::vector<const AddedToken*> sorted;
  for (const AddedToken& token : parts.added) sorted.push_back(&token);
  std::sort(sorted.begin(), sorted.end(),
            [](const AddedToken* a, const AddedToken* b) { return a->id < b->id; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->id != sorted[i - 1]->id) continue;
    throw InputError(fmt::format("{}: the id {} belongs to two added tokens, {} and {}; the file is damaged",
                                 where, sorted[i]->id, in_quotes(sorted[i - 1]->content),
                                 in_quotes(sorted[i]->content)));
  }
}

void apply_settings(const TokenizerSettings& settings, bool add_ends, bool bos_by_default,
                    TokenizerParts& parts, const std::string& where) {
  std::map<std::string, std::int32_t, std::less<>> names;
  for (const AddedToken& token : parts.added) names.emplace(token.content, token.id);
  for (const AddedToken& token : settings.added) {
    if (!names.emplace(token.content, token.id).second) continue;
    add_token(token, parts, where);
  }
  for (const std::string& content : settings.special) {
    if (content.empty() || names.contains(content)) continue;
    const std::int32_t id = parts.bpe.vocabulary().find(content).value_or(next_id(parts));
    names.emplace(content, id);
    parts.added.push_back({.id = id, .content = content, .special = true});
  }
  check_added_tokens(parts, where);

  const auto role = [&](const std::optional<std::string>& text, std::optional<std::int32_t> config_id) {
    if (text) return find_token(parts, *text);
    if (config_id && *config_id < next_id(parts)) return config_id;
    return std::optional<std::int32_t>();
  };
  parts.bos = role(settings.bos, settings.bos_id);
  parts.eos = role(settings.eos, settings.eos_id);
  parts.pad = role(settings.pad, {});
  parts.unknown = role(settings.unknown, {});
  if (!parts.unknown) parts.unknown = parts.bpe.options().unknown;
  if (add_ends) {
    if (settings.add_bos.value_or(bos_by_default) && parts.bos) parts.before = {*parts.bos};
    if (settings.add_eos.value_or(false) && parts.eos) parts.after = {*parts.eos};
  }
  if (!parts.bos && !settings.bos && !parts.before.empty()) parts.bos = parts.before.front();
}

PreTokenizerStep split_step(std::string_view pattern, const std::string& where) {
  PreTokenizerStep step;
  step.regex = std::make_shared<const Regex>(pattern, where);
  return step;
}

void append_byte_level(bool prefix_space, const char* split, const std::string& where,
                       std::vector<PreTokenizerStep>& steps) {
  using Kind = PreTokenizerStep::Kind;
  if (prefix_space) {
    steps.emplace_back();
    steps.back().kind = Kind::kPrefixSpace;
  }
  if (split != nullptr) steps.push_back(split_step(split, where));
  steps.emplace_back();
  steps.back().kind = Kind::kByteLevel;
}

PreTokenizerStep llama_metaspace(bool prefix, bool legacy) {
  using Prefix = PreTokenizerStep::Prefix;
  PreTokenizerStep step;
  step.kind = PreTokenizerStep::Kind::kMetaspace;
  step.pattern = "\xE2\x96\x81";
  step.prefix = !prefix ? Prefix::kNever : legacy ? Prefix::kAlways : Prefix::kFirst;
  step.split = false;
  return step;
}

std::vector<DecoderStep> sentencepiece_decoder(bool prefix) {
  std::vector<DecoderStep> steps = {
      {.kind = DecoderStep::Kind::kReplace, .pattern = "\xE2\x96\x81", .content = " "},
      {.kind = DecoderStep::Kind::kByteFallback, .pattern = {}, .content = {}},
      {.kind = DecoderStep::Kind::kFuse, .pattern = {}, .content = {}}};
  if (prefix) steps.push_back({.kind = DecoderStep::Kind::kStrip, .pattern = {}, .content = " ", .start = 1});
  return steps;
}

std::vector<MergeRule> merges_of_vocabulary(const Vocabulary& vocabulary,
                                            const std::vector<std::int32_t>& tokens_by_rank,
                                            bool at_characters) {
  std::vector<MergeRule> merges;
  for (const std::int32_t result : tokens_by_rank) {
    const std::string_view token = vocabulary.token(result);
    const std::size_t first = merges.size();
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if (at_characters && (static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;
      const auto left = vocabulary.find(token.substr(0, cut));
      if (!left) continue;
      const auto right = vocabulary.find(token.substr(cut));
      if (right) merges.push_back({.left = *left, .right = *right, .result = result, .rank = 0});
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [](const MergeRule& a, const MergeRule& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  for (std::size_t i = 0; i < merges.size(); ++i) merges[i].rank = static_cast<std::uint32_t>(i);
  return merges;
}

}  // namespace knapsaq
