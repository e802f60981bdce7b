#include <algorithm>
#include <array>
#include <span>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/quote.h"
#include "knapsaq/family/families.h"
#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::array kFamilies = {&kOpt,        &kLlama,   &kMistral,  &kQwen2,     &kQwen3, &kGemma2,
                                  &kGemma3,     &kMixtral, &kQwen2Moe, &kQwen3Moe,  &kOlmoe, &kGptOss,
                                  &kSmolLm3,    &kOlmo2,   &kOlmo3,    &kGranite,   &kPhi3,  &kMinistral,
                                  &kMinistral3, &kGptNeoX, &kQwen35,   &kQwen35Moe, &kLfm2};

/// The language model's part of config.json: the whole, or one object of a multimodal model's.
const json& text_part(const json& config) {
  for (const char* name : {"text_config", "llm_config"})
    if (config.is_object() && config.contains(name) && config[name].is_object()) return config[name];
  return config;
}

std::string named_architecture(const json& config) {
  if (!config.contains("architectures") || config["architectures"].is_null()) return "";
  const json& list = config["architectures"];
  if (!list.is_array() || list.empty() || !list[0].is_string())
    fail_config("architectures is not a list with a name");
  return list[0].get<std::string>();
}

/// A model saved without its head is called "LlamaModel" or "OPTModel".
std::string headless(std::string_view architecture) {
  constexpr std::string_view kHead = "ForCausalLM";
  return std::string(architecture.substr(0, architecture.size() - kHead.size())) + "Model";
}

}  // namespace

LayerConfig layer_config(const ModelConfig& config, std::int64_t block) {
  if (!config.blocks.empty()) return config.blocks.at(static_cast<std::size_t>(block));
  const bool slides = block >= config.sliding_from_layer;
  return {.heads = config.heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .ffn = config.ffn,
          .gated_mlp = config.gated_mlp,
          .activation = config.activation,
          .sliding_window = slides ? config.sliding_window : 0,
          .rope = config.positions == Positions::rotary ? 0 : -1};
}

std::span<const Family* const> families() { return kFamilies; }

const Family& find_family(const json& config) {
  if (!config.is_object()) fail_config("is not a JSON object");
  const json& text = text_part(config);
  const std::string type = Fields(text).text_or("model_type", "");
  const std::string architecture = named_architecture(config);
  const bool wrapped = &text != &config;
  for (const Family* family : kFamilies) {
    const bool by_type = type == family->model_type &&
                         (wrapped || architecture.empty() || architecture == headless(family->architecture));
    if (by_type || (!wrapped && architecture == family->architecture)) return *family;
  }
  if (architecture.empty() && type.empty()) fail_config("the field architectures is missing");
  std::string names;
  for (const Family* family : kFamilies)
    names += (names.empty() ? "" : ", ") + std::string(family->architecture);
  fail_config(fmt::format("the architecture {} is not supported; supported are {}",
                          in_quotes(architecture.empty() || wrapped ? type : architecture), names));
}

const Family& family_of(const ModelConfig& config) {
  const auto found = std::ranges::find(kFamilies, config.family, &Family::model_type);
  if (found == kFamilies.end()) throw std::logic_error("no family " + config.family);
  return **found;
}

ModelConfig parse_model_config(const json& object) {
  const Family& family = find_family(object);
  const json& text = text_part(object);
  const Fields fields(text);
  const Fields top(object);
  ModelConfig config;
  config.architecture = family.architecture;
  if (&text != &object) config.wrapper = named_architecture(object);
  config.family = family.model_type;
  config.hidden = fields.size("hidden_size");
  config.embedding = config.hidden;
  config.layers = fields.size("num_hidden_layers", kMostLayers);
  const auto size = [&](const char* name, std::int64_t usual) {
    return usual == 0 ? fields.size(name) : fields.size_or(name, usual);
  };
  config.heads = size("num_attention_heads", family.defaults.heads);
  config.vocab = size("vocab_size", family.defaults.vocab);
  config.max_positions = fields.size_or("max_position_embeddings", family.defaults.max_positions);
  config.tied =
      top.flag_or("tie_word_embeddings", fields.flag_or("tie_word_embeddings", family.defaults.tied));

  const bool as_heads = family.defaults.kv_heads == 0 || fields.is_null("num_key_value_heads");
  config.kv_heads = fields.size_or("num_key_value_heads", as_heads ? config.heads : family.defaults.kv_heads);
  config.head_dim = fields.size_or("head_dim", family.defaults.head_dim, kLargestHead);
  if (config.head_dim == 0) {
    if (config.hidden % config.heads != 0)
      fail_config(fmt::format("hidden_size {} is no multiple of num_attention_heads {}", config.hidden,
                              config.heads));
    config.head_dim = config.hidden / config.heads;
  }
  family.read(fields, config);
  if (config.heads % config.kv_heads != 0)
    fail_config(fmt::format("{} attention heads cannot share {} key and value heads evenly", config.heads,
                            config.kv_heads));
  return config;
}

}  // namespace knapsaq
