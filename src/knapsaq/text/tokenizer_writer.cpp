#include "knapsaq/text/tokenizer_writer.h"

#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// One step as it is, several in a sequence; null without any.
Json sequence(const char* list, std::vector<Json> steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return std::move(steps.front());
  return {{"type", "Sequence"}, {list, std::move(steps)}};
}

Json normalizer(const Normalizer& normalizer) {
  using Kind = NormalizerStep::Kind;
  std::vector<Json> steps;
  for (const NormalizerStep& step : normalizer.steps()) {
    if (step.kind == Kind::kNfc) {
      steps.push_back({{"type", "NFC"}});
    } else if (step.kind == Kind::kPrepend) {
      steps.push_back({{"type", "Prepend"}, {"prepend", step.content}});
    } else if (step.kind == Kind::kReplace) {
      steps.push_back(
          {{"type", "Replace"}, {"pattern", {{"String", step.pattern}}}, {"content", step.content}});
    } else {
      throw std::logic_error("tokenizer_json: a normalizer that no GGUF file has");
    }
  }
  return sequence("normalizers", std::move(steps));
}

const char* name_of(PreTokenizerStep::Prefix prefix) {
  using Prefix = PreTokenizerStep::Prefix;
  return prefix == Prefix::kFirst ? "first" : prefix == Prefix::kAlways ? "always" : "never";
}

Json pre_tokenizer(const PreTokenizer& pre_tokenizer) {
  using Kind = PreTokenizerStep::Kind;
  std::vector<Json> steps;
  for (const PreTokenizerStep& step : pre_tokenizer.steps()) {
    if (step.kind == Kind::kSplit && step.regex && !step.invert &&
        step.behaviour == PreTokenizerStep::Behaviour::kIsolated) {
      steps.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", step.regex->pattern()}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    } else if (step.kind == Kind::kByteLevel) {
      steps.push_back(
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
    } else if (step.kind == Kind::kMetaspace) {
      steps.push_back({{"type", "Metaspace"},
                       {"replacement", step.pattern},
                       {"prepend_scheme", name_of(step.prefix)},
                       {"split", step.split}});
    } else {
      throw std::logic_error("tokenizer_json: a pre-tokenizer that no GGUF file has");
    }
  }
  return sequence("pretokenizers", std::move(steps));
}

Json decoder(const std::vector<DecoderStep>& decoder) {
  using Kind = DecoderStep::Kind;
  std::vector<Json> steps;
  for (const DecoderStep& step : decoder) {
    if (step.kind == Kind::kByteLevel) {
      steps.push_back(
          {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}});
    } else if (step.kind == Kind::kReplace) {
      steps.push_back(
          {{"type", "Replace"}, {"pattern", {{"String", step.pattern}}}, {"content", step.content}});
    } else if (step.kind == Kind::kByteFallback) {
      steps.push_back({{"type", "ByteFallback"}});
    } else if (step.kind == Kind::kFuse) {
      steps.push_back({{"type", "Fuse"}});
    } else if (step.kind == Kind::kStrip) {
      steps.push_back(
          {{"type", "Strip"}, {"content", step.content}, {"start", step.start}, {"stop", step.stop}});
    } else {
      throw std::logic_error("tokenizer_json: a decoder that no GGUF file has");
    }
  }
  return sequence("decoders", std::move(steps));
}

/// As the vocabulary spells a token: the library finds ids of added tokens there.
std::string spelled(const TokenizerParts& parts, std::int32_t id) {
  return std::string(parts.bpe.vocabulary().token(id));
}

Json added_tokens(const TokenizerParts& parts) {
  Json list = Json::array();
  for (const AddedToken& token : parts.added)
    list.push_back(
        {{"id", token.id},
         {"content", parts.bpe.vocabulary().contains(token.id) ? spelled(parts, token.id) : token.content},
         {"single_word", token.single_word},
         {"lstrip", token.strip_left},
         {"rstrip", token.strip_right},
         {"normalized", token.normalized},
         {"special", token.special}});
  return list;
}

/// The special tokens around a text.
Json post_processor(const TokenizerParts& parts) {
  if (parts.before.empty() && parts.after.empty()) return nullptr;
  Json single = Json::array();
  Json pair = Json::array();
  Json special = Json::object();
  const auto around = [&](const std::vector<std::int32_t>& ids, int type, Json& list) {
    for (const std::int32_t id : ids) {
      const std::string text = spelled(parts, id);
      list.push_back({{"SpecialToken", {{"id", text}, {"type_id", type}}}});
      special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    }
  };
  const auto text = [&](const char* name, int type, Json& list) {
    around(parts.before, type, list);
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    around(parts.after, type, list);
  };
  text("A", 0, single);
  text("A", 0, pair);
  text("B", 1, pair);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

Json model(const Bpe& bpe) {
  const Vocabulary& vocabulary = bpe.vocabulary();
  const BpeOptions& options = bpe.options();
  Json::object_t tokens;  // appended to: its operator[] would compare with all that are there
  for (std::int32_t id = 0; id < vocabulary.size(); ++id)
    if (vocabulary.contains(id)) tokens.emplace_back(std::string(vocabulary.token(id)), Json(id));
  Json merges = Json::array();
  for (const MergeRule& merge : bpe.merges())
    merges.push_back({std::string(vocabulary.token(merge.left)), std::string(vocabulary.token(merge.right))});
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", options.unknown ? Json(std::string(vocabulary.token(*options.unknown))) : Json()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", options.fuse_unknown},
          {"byte_fallback", options.byte_fallback},
          {"ignore_merges", options.ignore_merges},
          {"vocab", std::move(tokens)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string tokenizer_json(const TokenizerParts& parts) {
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(parts)},
                     {"normalizer", normalizer(parts.normalizer)},
                     {"pre_tokenizer", pre_tokenizer(parts.pre_tokenizer)},
                     {"post_processor", post_processor(parts)},
                     {"decoder", decoder(parts.decoder)},
                     {"model", model(parts.bpe)}};
  return json.dump(1) + "\n";
}

Json tokenizer_config_json(const TokenizerParts& parts) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  const auto role = [&](const char* name, std::optional<std::int32_t> id) {
    if (id && parts.bpe.vocabulary().contains(*id)) config[name] = spelled(parts, *id);
  };
  role("bos_token", parts.bos);
  role("eos_token", parts.eos);
  role("pad_token", parts.pad);
  role("unk_token", parts.unknown);
  return config;
}

}  // namespace knapsaq
