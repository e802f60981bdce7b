// tokenizer.json: every component is read according to its type; an unknown type is refused by name.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/json_reader.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

using Json = nlohmann::json;

/// Real files nest one sequence in another at most; a deeper file is hostile.
constexpr int kDeepest = 8;

/// The classes that Transformers 5 builds from the vocabulary, the merges and the template of a
/// tokenizer.json alone, with their own steps for everything before the merges; every other class uses the
/// file unchanged.
enum class Class : std::uint8_t { as_it_is, gpt2, qwen2, qwen35, llama };

/// Types of models whose files are used unchanged whatever class they name: Transformers maps them to its
/// plain class, or to Mistral's own library.
constexpr std::array<std::string_view, 14> kAsTheyAre{
    "granite",    "granitemoe", "granitemoehybrid", "granitemoeshared", "ministral",
    "ministral3", "mistral",    "mistral3",         "mixtral",          "olmo2",
    "olmo3",      "phi3",       "phimoe",           "pixtral"};

bool has_byte_level(const Json& tokenizer) {
  const Json* step = optional_field(tokenizer, "pre_tokenizer");
  if (step == nullptr || !step->is_object()) return false;
  const auto is_byte_level = [](const Json& one) {
    return one.is_object() && one.value("type", Json()) == "ByteLevel";
  };
  const Json* parts = optional_field(*step, "pretokenizers");
  return is_byte_level(*step) ||
         (parts != nullptr && parts->is_array() && std::ranges::any_of(*parts, is_byte_level));
}

/// The class that Transformers' AutoTokenizer (5.24) chooses from the class named by tokenizer_config.json
/// and the model's type.
Class class_of(const Json& tokenizer, const TokenizerSettings& settings) {
  const bool byte_level = has_byte_level(tokenizer);
  Class made = Class::as_it_is;
  const std::string& type = settings.model_type;
  const bool is_qwen35 = type.starts_with("qwen3_5");
  if (type == "qwen2") {
    made = Class::qwen2;
  } else if (is_qwen35 && !type.ends_with("_text")) {
    made = Class::qwen35;
  } else if (std::ranges::find(kAsTheyAre, type) != kAsTheyAre.end()) {
    return made;
  } else if (settings.tokenizer_class == "Qwen2Tokenizer") {
    made = Class::qwen2;
  } else if (settings.tokenizer_class == "Qwen3_5Tokenizer") {
    made = Class::qwen35;
  } else if (settings.tokenizer_class == "GPT2Tokenizer") {
    made = Class::gpt2;
  } else if (settings.tokenizer_class == "LlamaTokenizer") {
    made = Class::llama;
  } else if (settings.tokenizer_class.empty()) {
    if (type == "qwen3" || type == "qwen3_moe" || type == "qwen3_next") made = Class::qwen2;
    if (is_qwen35) made = Class::qwen35;
    if (type == "opt") made = Class::gpt2;
  }
  // A vocabulary of the other kind makes no sense with it.
  return byte_level == (made != Class::llama) ? made : Class::as_it_is;
}

class Reader {
 public:
  Reader(const Json& json, const TokenizerSettings& settings, const std::string& where)
      : json_(json), settings_(settings), where_(where), class_(class_of(json, settings)) {}

  TokenizerParts read() {
    TokenizerParts parts;
    if (class_ != Class::as_it_is) {
      make_steps(parts);
    } else {
      read_steps(parts);
    }
    parts.bpe = read_model(parts.pre_tokenizer.byte_level());
    read_added_tokens(parts);
    if (const Json* processor = optional_field(json_, "post_processor"))
      read_post_processor(*processor, parts, 0);
    return parts;
  }

 private:
  /// Everything except the model and the special tokens around a text, as in the file.
  void read_steps(TokenizerParts& parts) const {
    if (const Json* normalizer = optional_field(json_, "normalizer")) {
      std::vector<NormalizerStep> steps;
      read_normalizer(*normalizer, steps, 0);
      parts.normalizer = Normalizer(std::move(steps));
    }
    if (const Json* pre_tokenizer = optional_field(json_, "pre_tokenizer")) {
      std::vector<PreTokenizerStep> steps;
      read_pre_tokenizer(*pre_tokenizer, steps, 0);
      for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
        if (steps[i].kind == PreTokenizerStep::Kind::kByteLevel) refuse("a pre-tokenizer behind ByteLevel");
      }
      parts.pre_tokenizer = PreTokenizer(std::move(steps));
    }
    if (const Json* decoder = optional_field(json_, "decoder")) read_decoder(*decoder, parts.decoder, 0);
  }

  /// The same as in the class.
  void make_steps(TokenizerParts& parts) const {
    std::vector<PreTokenizerStep> steps;
    if (class_ == Class::llama) {
      const bool prefix = settings_.add_prefix_space.value_or(true);
      steps.push_back(llama_metaspace(prefix, settings_.legacy.value_or(false)));
      parts.decoder = sentencepiece_decoder(prefix);
    } else {
      const bool prefix = settings_.add_prefix_space.value_or(false);
      const bool is_qwen = class_ != Class::gpt2;
      if (is_qwen) {
        parts.normalizer =
            Normalizer({{.kind = NormalizerStep::Kind::kNfc, .pattern = {}, .content = {}, .regex = {}}});
        steps.push_back(split_step(class_ == Class::qwen2 ? kQwen2Split : kQwen35Split, where_));
      }
      append_byte_level(prefix, is_qwen ? nullptr : kGpt2Split, where_, steps);
      parts.decoder = {{.kind = DecoderStep::Kind::kByteLevel, .pattern = {}, .content = {}}};
    }
    parts.pre_tokenizer = PreTokenizer(std::move(steps));
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(fmt::format("{}: {} is not supported; use a tokenizer without it", where_, what));
  }
  [[noreturn]] void damaged(const std::string& what) const {
    throw InputError(fmt::format("{}: {}; the file is damaged", where_, what));
  }

  std::string type_of(const Json& json, const char* role, int depth) const {
    if (!json.is_object()) damaged(fmt::format("a {} is not an object", role));
    if (depth > kDeepest) damaged(fmt::format("{}s are nested {} deep", role, depth));
    return required_string(json, "type", where_);
  }

  const Json& required(const Json& json, const char* field) const {
    const Json* value = optional_field(json, field);
    if (value == nullptr) damaged(fmt::format("'{}' is missing", field));
    return *value;
  }

  const Json& array(const Json& json, const char* field) const {
    const Json& value = required(json, field);
    if (!value.is_array()) damaged(fmt::format("'{}' is not a list", field));
    return value;
  }

  bool flag(const Json& json, const char* field, bool otherwise) const {
    return optional_bool(json, field, where_).value_or(otherwise);
  }

  /// {"Regex": "..."} or {"String": "..."}.
  void read_pattern(const Json& json, std::string& literal, std::shared_ptr<const Regex>& regex) const {
    const Json& pattern = required(json, "pattern");
    if (!pattern.is_object()) damaged("a 'pattern' is not an object");
    if (const auto expression = optional_string(pattern, "Regex", where_)) {
      regex = std::make_shared<const Regex>(*expression, where_);
      return;
    }
    literal = required_string(pattern, "String", where_);
    if (literal.empty()) refuse("an empty pattern");
  }

  void read_normalizer(const Json& json, std::vector<NormalizerStep>& steps, int depth) const {
    using Kind = NormalizerStep::Kind;
    const std::string type = type_of(json, "normalizer", depth);
    if (type == "Sequence") {
      for (const Json& part : array(json, "normalizers")) read_normalizer(part, steps, depth + 1);
      return;
    }
    NormalizerStep step{.kind = Kind::kNfc, .pattern = {}, .content = {}, .regex = {}};
    if (type == "NFC") {
      step.kind = Kind::kNfc;
    } else if (type == "NFD") {
      step.kind = Kind::kNfd;
    } else if (type == "NFKC") {
      step.kind = Kind::kNfkc;
    } else if (type == "NFKD") {
      step.kind = Kind::kNfkd;
    } else if (type == "Lowercase") {
      step.kind = Kind::kLowercase;
    } else if (type == "Prepend") {
      step.kind = Kind::kPrepend;
      step.content = required_string(json, "prepend", where_);
    } else if (type == "Replace") {
      step.content = required_string(json, "content", where_);
      read_pattern(json, step.pattern, step.regex);
      step.kind = step.regex ? Kind::kReplaceRegex : Kind::kReplace;
    } else {
      refuse(fmt::format("the normalizer {}", in_quotes(type)));
    }
    steps.push_back(std::move(step));
  }

  PreTokenizerStep::Behaviour behaviour_of(const Json& json) const {
    using Behaviour = PreTokenizerStep::Behaviour;
    const std::string name = required_string(json, "behavior", where_);
    if (name == "Removed") return Behaviour::kRemoved;
    if (name == "Isolated") return Behaviour::kIsolated;
    if (name == "MergedWithPrevious") return Behaviour::kMergedWithPrevious;
    if (name == "MergedWithNext") return Behaviour::kMergedWithNext;
    if (name == "Contiguous") return Behaviour::kContiguous;
    refuse(fmt::format("the split behaviour {}", in_quotes(name)));
  }

  /// One character, as required for replacements and similar fields.
  std::string character(const Json& json, const char* field, const char* otherwise) const {
    std::string text = optional_string(json, field, where_).value_or(otherwise);
    if (text.empty() || utf8_length(text[0]) != text.size())
      damaged(fmt::format("'{}' is not one character", field));
    return text;
  }

  void read_pre_tokenizer(const Json& json, std::vector<PreTokenizerStep>& steps, int depth) const {
    const std::string type = type_of(json, "pre-tokenizer", depth);
    if (type == "Sequence") {
      for (const Json& part : array(json, "pretokenizers")) read_pre_tokenizer(part, steps, depth + 1);
    } else if (type == "Split") {
      PreTokenizerStep step;
      read_pattern(json, step.pattern, step.regex);
      step.behaviour = behaviour_of(json);
      step.invert = flag(json, "invert", false);
      steps.push_back(std::move(step));
    } else if (type == "Digits") {
      steps.push_back(split_step(R"(\p{N})", where_));
      if (!flag(json, "individual_digits", false))
        steps.back().behaviour = PreTokenizerStep::Behaviour::kContiguous;
    } else if (type == "ByteLevel") {
      append_byte_level(flag(json, "add_prefix_space", true),
                        flag(json, "use_regex", true) ? kGpt2Split : nullptr, where_, steps);
    } else if (type == "Metaspace") {
      steps.push_back(read_metaspace(json));
    } else {
      refuse(fmt::format("the pre-tokenizer {}", in_quotes(type)));
    }
  }

  PreTokenizerStep::Prefix prefix_of(const Json& json) const {
    using Prefix = PreTokenizerStep::Prefix;
    // Files from before the scheme had a name have a flag instead.
    const std::string otherwise = flag(json, "add_prefix_space", true) ? "always" : "never";
    const std::string name = optional_string(json, "prepend_scheme", where_).value_or(otherwise);
    if (name == "always") return Prefix::kAlways;
    if (name == "first") return Prefix::kFirst;
    if (name == "never") return Prefix::kNever;
    refuse(fmt::format("the prepend scheme {}", in_quotes(name)));
  }

  PreTokenizerStep read_metaspace(const Json& json) const {
    PreTokenizerStep step;
    step.kind = PreTokenizerStep::Kind::kMetaspace;
    step.pattern = character(json, "replacement", "\xE2\x96\x81");
    step.prefix = prefix_of(json);
    step.split = flag(json, "split", true);
    return step;
  }

  Bpe read_model(bool byte_level) const {
    const Json& model = required(json_, "model");
    if (!model.is_object()) damaged("'model' is not an object");
    // Old files do not name the type; only BPE has merges.
    const std::string type =
        optional_string(model, "type", where_).value_or(model.contains("merges") ? "BPE" : "");
    if (type != "BPE") refuse(fmt::format("the model type {}", in_quotes(type)));
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!optional_string(model, affix, where_).value_or("").empty())
        refuse(fmt::format("a BPE model with {}", affix));
    }
    const Json* dropout = optional_field(model, "dropout");
    if (dropout != nullptr && (!dropout->is_number() || dropout->get<double>() != 0))
      refuse("a BPE model with dropout");

    const Json& entries = required(model, "vocab");
    if (!entries.is_object()) damaged("'vocab' is not an object");
    Vocabulary vocabulary = read_vocabulary(entries, where_);
    std::vector<MergeRule> merges = read_merges(array(model, "merges"), vocabulary);

    BpeOptions options;
    options.byte_level = byte_level;
    options.byte_fallback = flag(model, "byte_fallback", false);
    options.fuse_unknown = flag(model, "fuse_unk", false);
    options.ignore_merges = flag(model, "ignore_merges", false);
    if (class_ != Class::as_it_is) {
      options.byte_fallback = options.fuse_unknown = class_ == Class::llama;
      options.ignore_merges = false;
    } else if (const auto unknown = optional_string(model, "unk_token", where_)) {
      options.unknown = vocabulary.find(*unknown);
      if (!options.unknown)
        damaged(fmt::format("the unknown token {} is not in the vocabulary", in_quotes(*unknown)));
    }
    return {std::move(vocabulary), merges, options};
  }

  std::vector<MergeRule> read_merges(const Json& list, const Vocabulary& vocabulary) const {
    std::vector<MergeRule> merges;
    merges.reserve(list.size());
    for (const Json& entry : list) {
      const std::size_t index = merges.size();
      std::string_view left;
      std::string_view right;
      if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        left = entry[0].get_ref<const std::string&>();
        right = entry[1].get_ref<const std::string&>();
      } else if (entry.is_string()) {
        const std::string_view line = entry.get_ref<const std::string&>();
        const std::size_t blank = line.find(' ');
        if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
          damaged(fmt::format("merge {} is not two tokens with a blank between them", index));
        }
        left = line.substr(0, blank);
        right = line.substr(blank + 1);
      } else {
        damaged(fmt::format("merge {} is neither a string nor two strings", index));
      }
      merges.push_back(make_merge(left, right, vocabulary, index, where_));
    }
    return merges;
  }

  void read_added_tokens(TokenizerParts& parts) const {
    const Json* list = optional_field(json_, "added_tokens");
    if (list == nullptr) return;
    if (!list->is_array()) damaged("'added_tokens' is not a list");
    for (const Json& entry : *list) {
      if (!entry.is_object()) damaged("an added token is not an object");
      const auto id = optional_integer(entry, "id", where_);
      if (!id) damaged("an added token has no id");
      add_token(read_added_token(entry, *id, where_), parts, where_);
    }
  }

  void read_post_processor(const Json& json, TokenizerParts& parts, int depth) {
    const std::string type = type_of(json, "post-processor", depth);
    if (type == "Sequence") {
      for (const Json& part : array(json, "processors")) read_post_processor(part, parts, depth + 1);
    } else if (type == "TemplateProcessing") {
      read_template(json, parts);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      wrap({pair_id(json, "cls")}, {pair_id(json, "sep")}, parts);
    } else if (type != "ByteLevel") {  // ByteLevel changes only offsets
      refuse(fmt::format("the post-processor {}", in_quotes(type)));
    }
  }

  /// ["</s>", 2]
  std::int32_t pair_id(const Json& json, const char* field) const {
    const Json& pair = array(json, field);
    if (pair.size() != 2 || !pair[1].is_number_integer())
      damaged(fmt::format("'{}' is not a token and its id", field));
    return checked_id(pair[1].get<std::int64_t>(), where_);
  }

  void wrap(const std::vector<std::int32_t>& before, const std::vector<std::int32_t>& after,
            TokenizerParts& parts) {
    // A second template of a sequence applies to the result of the first one.
    parts.before.insert(parts.before.begin(), before.begin(), before.end());
    parts.after.insert(parts.after.end(), after.begin(), after.end());
  }

  void read_template(const Json& json, TokenizerParts& parts) {
    std::array<std::vector<std::int32_t>, 2> around;
    std::size_t side = 0;
    const Json* special = optional_field(json, "special_tokens");
    for (const Json& item : array(json, "single")) {
      if (!item.is_object()) damaged("an item of a template is not an object");
      if (item.contains("Sequence")) {
        if (side++ != 0) refuse("a template with the text twice");
        continue;
      }
      const Json& reference = required(item, "SpecialToken");
      if (!reference.is_object()) damaged("an item of a template is not an object");
      const std::string name = required_string(reference, "id", where_);
      const auto entry =
          special != nullptr && special->is_object() ? special->find(name) : Json::const_iterator();
      if (special == nullptr || !special->is_object() || entry == special->end() || !entry->is_object()) {
        damaged(fmt::format("the template's token {} is not explained", in_quotes(name)));
      }
      for (const Json& id : array(*entry, "ids")) {
        if (!id.is_number_integer()) damaged("a template's id is not an integer");
        around[side].push_back(checked_id(id.get<std::int64_t>(), where_));
      }
    }
    if (side == 0) refuse("a template without the text");
    wrap(around[0], around[1], parts);
  }

  std::size_t count(const Json& json, const char* field) const {
    const auto number = optional_integer(json, field, where_).value_or(0);
    if (number < 0) damaged(fmt::format("'{}' is negative", field));
    return static_cast<std::size_t>(number);
  }

  void read_decoder(const Json& json, std::vector<DecoderStep>& steps, int depth) const {
    using Kind = DecoderStep::Kind;
    const std::string type = type_of(json, "decoder", depth);
    if (type == "Sequence") {
      for (const Json& part : array(json, "decoders")) read_decoder(part, steps, depth + 1);
      return;
    }
    DecoderStep step{.kind = Kind::kByteLevel, .pattern = {}, .content = {}};
    if (type == "ByteLevel") {
      step.kind = Kind::kByteLevel;
    } else if (type == "ByteFallback") {
      step.kind = Kind::kByteFallback;
    } else if (type == "Fuse") {
      step.kind = Kind::kFuse;
    } else if (type == "Strip") {
      step.kind = Kind::kStrip;
      step.content = character(json, "content", " ");
      step.start = count(json, "start");
      step.stop = count(json, "stop");
    } else if (type == "Replace") {
      step.kind = Kind::kReplace;
      std::shared_ptr<const Regex> regex;
      read_pattern(json, step.pattern, regex);
      if (regex) refuse("a decoder that replaces a regular expression");
      step.content = required_string(json, "content", where_);
    } else if (type == "Metaspace") {
      step.kind = Kind::kMetaspace;
      step.pattern = character(json, "replacement", "\xE2\x96\x81");
      step.strip_first = prefix_of(json) != PreTokenizerStep::Prefix::kNever;
    } else {
      refuse(fmt::format("the decoder {}", in_quotes(type)));
    }
    steps.push_back(std::move(step));
  }

  const Json& json_;
  const TokenizerSettings& settings_;
  const std::string& where_;
  Class class_;
};

}  // namespace

TokenizerParts read_tokenizer_json(std::string_view text, const TokenizerSettings& settings,
                                   const std::string& where) {
  const Json json = parse_json_object(text, where);
  Reader reader(json, settings, where);
  TokenizerParts parts = reader.read();
  // Only the template decides what surrounds a text: Transformers 5 does not read add_bos_token here.
  apply_settings(settings, false, false, parts, where);
  return parts;
}

}  // namespace knapsaq
