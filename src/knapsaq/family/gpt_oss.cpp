#include <array>

#include <fmt/format.h>

#include "knapsaq/family/families.h"
#include "knapsaq/family/mixtures.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// What the activation has beside clamped_swiglu's own numbers cannot be computed.
void require_number(const Fields& fields, const char* name, float expected) {
  if (fields.positive_or(name, static_cast<double>(expected)) != expected)
    fail_config(fmt::format("{} is {}; only {} is supported", name, fields.positive(name), expected));
}

/// Transformers' rotary positions where config.json has none.
Rotary default_rope(const ModelConfig& config) {
  Rotary rotary{.theta = 150000, .rotated = config.head_dim, .scaling = {}};
  rotary.scaling.kind = RopeScaling::Kind::yarn;
  rotary.scaling.factor = 32;
  rotary.scaling.original_max_positions = 4096;
  rotary.scaling.truncate = false;
  return rotary;
}

void read(const Fields& fields, ModelConfig& config) {
  const bool has_rope = fields.has("rope_scaling") || fields.has("rope_parameters");
  config.ffn = fields.size("intermediate_size");
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.ropes = {has_rope ? read_rope(fields, config, config.head_dim, {.theta = 150000})
                           : default_rope(config)};
  config.activation = Activation::clamped_swiglu;
  require_number(fields, "swiglu_alpha", 1.702f);
  require_number(fields, "swiglu_limit", 7.0f);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", true);
  config.sinks = true;
  Experts experts = read_experts(fields, config, "num_local_experts", config.ffn);
  experts.bias = true;
  give_experts(
      experts, [](std::int64_t) { return true; }, config);

  if (fields.is_null("sliding_window")) return;
  config.sliding_window = fields.size_or("sliding_window", 128);
  std::vector<std::string> types;
  if (fields.has("layer_types"))
    types = fields.texts("layer_types", config.layers, {"full_attention", "sliding_attention"});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const auto i = static_cast<std::size_t>(layer);
    const bool slides = types.empty() ? layer % 2 == 0 : types[i] == "sliding_attention";
    if (slides) config.blocks[i].sliding_window = config.sliding_window;
  }
}

/// The stacks [E, inputs, rows]: rows of gates and ups alternate.
std::vector<PublishedModule> published(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  for_mixtures(config, [&](const std::string& block, const Experts& experts) {
    PublishedModule both{.name = block + "mlp.experts.gate_up_proj",
                         .parts = {},
                         .stacked = true,
                         .stacks = experts.count,
                         .transposed = true};
    PublishedModule down{.name = block + "mlp.experts.down_proj",
                         .parts = {},
                         .stacked = true,
                         .stacks = experts.count,
                         .transposed = true};
    for (std::int64_t e = 0; e < experts.count; ++e) {
      const std::int64_t first = 2 * experts.ffn * e;
      for (const auto& [offset, name] : {std::pair{0, "gate_proj"}, {1, "up_proj"}})
        both.parts.push_back({expert_module(block, e, name),
                              {.first = first + offset, .count = 1, .stride = 2, .repeats = experts.ffn}});
      down.parts.push_back(
          {expert_module(block, e, "down_proj"), {.first = config.hidden * e, .count = config.hidden}});
    }
    modules.push_back(std::move(both));
    modules.push_back(std::move(down));
  });
  return modules;
}

/// MXFP4 folders, as they are read (checkpoint/foreign/mxfp4.cpp): <name>.weight [E, rows, inputs].
std::vector<PublishedModule> also_read(const ModelConfig& config) {
  std::vector<PublishedModule> modules = published(config);
  for (PublishedModule& module : modules) {
    module.name += ".weight";
    module.transposed = false;
  }
  return modules;
}

constexpr std::array<GgufName, 2> kNames{
    {{"post_attention_layernorm", "post_attention_norm"}, {"self_attn.sinks", "attn_sinks"}}};

/// llama.cpp's "gpt-oss": every other layer slides, the first does.
std::string obstacle(const ModelConfig& config) {
  if (!config.qkv_bias) return "gpt-oss without biases in attention";
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    if ((layer_config(config, layer).sliding_window > 0) != (layer % 2 == 0))
      return "gpt-oss whose sliding windows do not alternate";
  return "";
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_gguf_experts(keys, "num_local_experts", config);
  // llama.cpp's files say the width of an expert only.
  if (keys.contains("expert_feed_forward_length"))
    config["intermediate_size"] = keys["expert_feed_forward_length"];
  config.erase("layer_types");
  if (keys.contains("attention.sliding_window")) config["sliding_window"] = keys["attention.sliding_window"];
}

}  // namespace

const Family kGptOss = {.model_type = "gpt_oss",
                        .architecture = "GptOssForCausalLM",
                        .defaults = {.kv_heads = 8, .head_dim = 64, .max_positions = 131072},
                        .read = read,
                        .published = published,
                        .also_read = also_read,
                        .gguf = {.architecture = "gpt-oss",
                                 .names = kNames,
                                 .obstacle = obstacle,
                                 .windows = true,
                                 .write = write_gguf_experts,
                                 .read = read_gguf,
                                 .reads = kGgufExpertKeys,
                                 .fused = gguf_experts}};

}  // namespace knapsaq
