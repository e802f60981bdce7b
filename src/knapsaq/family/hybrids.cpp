#include "knapsaq/family/hybrids.h"

#include <functional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/family/readers.h"
#include "knapsaq/family/rope.h"

namespace knapsaq {
namespace {

// Transformers' defaults.
constexpr std::int64_t kInterval = 4;
constexpr std::int64_t kKeyHeads = 16;
constexpr std::int64_t kValueHeads = 32;
constexpr std::int64_t kHeadDim = 128;
constexpr std::int64_t kTaps = 4;
constexpr std::int64_t kMostTaps = 64;
constexpr RopeDefaults kRope = {.theta = 10000, .rotated = 0.25};

Recurrence read_delta(const Fields& fields) {
  Recurrence delta;
  delta.taps = fields.size_or("linear_conv_kernel_dim", kTaps, kMostTaps);
  delta.key_heads = fields.size_or("linear_num_key_heads", kKeyHeads, kLargestHead);
  delta.value_heads = fields.size_or("linear_num_value_heads", kValueHeads, kLargestHead);
  delta.key_dim = fields.size_or("linear_key_head_dim", kHeadDim, kLargestHead);
  delta.value_dim = fields.size_or("linear_value_head_dim", kHeadDim, kLargestHead);
  if (delta.value_heads % delta.key_heads != 0)
    fail_config(
        fmt::format("{} value heads cannot share {} key heads evenly", delta.value_heads, delta.key_heads));
  delta.channels = 2 * delta.key_heads * delta.key_dim + delta.value_width();
  return delta;
}

/// Whether each layer has attention.
std::vector<bool> attention_layers(const Fields& fields, std::int64_t layers) {
  std::vector<bool> attention;
  if (fields.has("layer_types")) {
    for (const std::string& type :
         fields.texts("layer_types", layers, {"linear_attention", "full_attention"}))
      attention.push_back(type == "full_attention");
    return attention;
  }
  const std::int64_t interval = fields.size_or("full_attention_interval", kInterval);
  for (std::int64_t layer = 0; layer < layers; ++layer) attention.push_back((layer + 1) % interval == 0);
  return attention;
}

/// Calls function(block, parts of q_proj) for the layers with attention.
void for_gates(const ModelConfig& config,
               const std::function<void(std::int64_t, std::vector<PublishedModule::Part>)>& function) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    if (!layer.is_attention()) continue;
    const std::string attention = fmt::format("model.layers.{}.self_attn.", i);
    const std::int64_t dim = layer.head_dim;
    function(i,
             {{attention + "q_proj", {.first = 0, .count = dim, .stride = 2 * dim, .repeats = layer.heads}},
              {attention + "q_gate_proj",
               {.first = dim, .count = dim, .stride = 2 * dim, .repeats = layer.heads}}});
  }
}

}  // namespace

void read_hybrid(const Fields& fields, ModelConfig& config) {
  read_rms_silu(fields, config, kRope);
  config.norm_offset = 1;
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.qk_norm = true;
  config.attention_gate = true;
  const Recurrence delta = read_delta(fields);
  spread_blocks(config);
  const std::vector<bool> attention = attention_layers(fields, config.layers);
  for (std::size_t i = 0; i < attention.size(); ++i)
    if (!attention[i]) config.blocks[i].become(Mixer::delta, delta);
}

std::vector<PublishedModule> published_gates(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  for_gates(config, [&](std::int64_t block, std::vector<PublishedModule::Part> parts) {
    modules.push_back(
        {.name = fmt::format("model.layers.{}.self_attn.q_proj", block), .parts = std::move(parts)});
  });
  return modules;
}

std::vector<PublishedModule> gguf_gates(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  for_gates(config, [&](std::int64_t block, std::vector<PublishedModule::Part> parts) {
    modules.push_back({.name = fmt::format("blk.{}.attn_q", block), .parts = std::move(parts)});
  });
  return modules;
}

void write_hybrid_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  // The sizes of attention for all layers, as llama.cpp's converter has them.
  keys["attention.head_count"] = config.heads;
  keys["attention.head_count_kv"] = config.kv_heads;
  std::vector<bool> recurrent;
  Recurrence delta;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    recurrent.push_back(!layer.is_attention());
    if (!layer.is_attention()) delta = layer.recurrence;
  }
  keys["attention.recurrent_layers"] = recurrent;
  keys["ssm.conv_kernel"] = delta.taps;
  keys["ssm.inner_size"] = delta.value_width();
  keys["ssm.state_size"] = delta.key_dim;
  keys["ssm.time_step_rank"] = delta.value_heads;
  keys["ssm.group_count"] = delta.key_heads;
  // Which pairs turn by time, height and width of a picture, in turn; the three are equal in texts.
  const std::int64_t pairs = config.rope().rotated / 2;
  keys["rope.dimension_sections"] = {(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3, 0};
}

void read_hybrid_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  const Fields fields(keys);
  config["linear_conv_kernel_dim"] = fields.size("ssm.conv_kernel");
  config["linear_num_key_heads"] = fields.size("ssm.group_count");
  const std::int64_t heads = fields.size("ssm.time_step_rank");
  config["linear_num_value_heads"] = heads;
  config["linear_key_head_dim"] = fields.size("ssm.state_size");
  config["linear_value_head_dim"] = fields.size("ssm.inner_size") / heads;
  if (!fields.has("attention.recurrent_layers")) {
    config["full_attention_interval"] = fields.size_or("full_attention_interval", kInterval);
    return;
  }
  nlohmann::json types = nlohmann::json::array();
  for (const nlohmann::json& recurrent : fields.get("attention.recurrent_layers"))
    types.push_back(recurrent == true || recurrent == 1 ? "linear_attention" : "full_attention");
  config["layer_types"] = types;
}

}  // namespace knapsaq
