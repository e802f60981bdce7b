#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// Whether each layer has rotary positions: a list of ones and zeros, of which Transformers reads as many as
/// there are layers, or all layers but every so many-th.
std::vector<bool> rotary_layers(const Fields& fields, std::int64_t layers) {
  std::vector<bool> rotary;
  if (!fields.has("no_rope_layers")) {
    const std::int64_t interval = fields.size_or("no_rope_layer_interval", 4, kMostLayers);
    for (std::int64_t layer = 0; layer < layers; ++layer) rotary.push_back((layer + 1) % interval != 0);
    return rotary;
  }
  const nlohmann::json& list = fields.get("no_rope_layers");
  if (!list.is_array() || std::ssize(list) < layers)
    fail_config(fmt::format("no_rope_layers does not say 0 or 1 for each of {} layers", layers));
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const nlohmann::json& value = list[static_cast<std::size_t>(layer)];
    if (value != 0 && value != 1) fail_config("no_rope_layers contains something else than 0 and 1");
    rotary.push_back(value == 1);
  }
  return rotary;
}

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config, {.theta = 2e6});
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.mlp_bias = fields.flag_or("mlp_bias", false);
  const std::vector<bool> rotary = rotary_layers(fields, config.layers);
  const std::int64_t window = fields.size_or("sliding_window", 0);
  if (fields.has("layer_types")) {
    read_windows(fields, window, config);
  } else {  // those without positions have the window, if any has
    std::vector<bool> slides = rotary;
    slides.flip();
    give_windows(slides, fields.flag_or("use_sliding_window", false) ? window : 0, config);
  }
  for (std::size_t i = 0; i < rotary.size(); ++i) config.blocks[i].rope = rotary[i] ? 0 : -1;
}

/// llama.cpp's code for the family knows one pattern.
bool is_every_fourth(const ModelConfig& config) {
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    if ((layer_config(config, layer).rope < 0) != ((layer + 1) % 4 == 0)) return false;
  return true;
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.o_bias || config.mlp_bias) return "smollm3 with biases";
  if (!is_every_fourth(config)) return "smollm3 with layers without positions other than every fourth";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "smollm3 with Llama 3's rescaling of positions";
  return "";
}

}  // namespace

const Family kSmolLm3 = {.model_type = "smollm3",
                         .architecture = "SmolLM3ForCausalLM",
                         .defaults = {.tied = true, .kv_heads = 4, .max_positions = 32768},
                         .read = read,
                         .gguf = {.architecture = "smollm3", .rotated_rows = true, .obstacle = obstacle}};

}  // namespace knapsaq
