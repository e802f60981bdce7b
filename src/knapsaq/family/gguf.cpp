#include "knapsaq/family/gguf.h"

#include <cmath>
#include <vector>

namespace knapsaq {
namespace {

/// A number for all layers, or a list where they differ.
template <class Of>
nlohmann::ordered_json of_layers(const ModelConfig& config, const Of& of) {
  std::vector<std::int64_t> values;
  for (std::int64_t block = 0; block < config.layers; ++block)
    values.push_back(of(layer_config(config, block)));
  for (const std::int64_t value : values)
    if (value != values.front()) return values;
  return values.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(values.front());
}

void add_scaling(const RopeScaling& scaling, nlohmann::ordered_json& keys) {
  if (scaling.kind == RopeScaling::Kind::linear) {
    keys["rope.scaling.type"] = "linear";
    keys["rope.scaling.factor"] = scaling.factor;
  } else if (scaling.kind == RopeScaling::Kind::yarn) {
    keys["rope.scaling.type"] = "yarn";
    keys["rope.scaling.factor"] = scaling.factor;
    keys["rope.scaling.original_context_length"] = scaling.original_max_positions;
    // llama.cpp multiplies it by 1 + 0.1 ln(factor) itself.
    const double own = 1 + 0.1 * std::log(static_cast<double>(scaling.factor));
    if (scaling.attention_factor != 0)
      keys["rope.scaling.attn_factor"] =
          static_cast<float>(static_cast<double>(scaling.attention_factor) / own);
    keys["rope.scaling.yarn_beta_fast"] = scaling.beta_fast;
    keys["rope.scaling.yarn_beta_slow"] = scaling.beta_slow;
  } else if (scaling.kind == RopeScaling::Kind::longrope) {
    keys["rope.scaling.type"] = "longrope";
    keys["rope.scaling.original_context_length"] = scaling.original_max_positions;
  }
}

}  // namespace

nlohmann::ordered_json usual_gguf_keys(const ModelConfig& config) {
  nlohmann::ordered_json keys;
  keys["vocab_size"] = config.vocab;
  keys["context_length"] = config.max_positions;
  keys["embedding_length"] = config.hidden;
  keys["block_count"] = config.layers;
  keys["feed_forward_length"] = of_layers(config, [](const LayerConfig& layer) { return layer.ffn; });
  keys["attention.head_count"] = of_layers(config, [](const LayerConfig& layer) { return layer.heads; });
  keys["attention.head_count_kv"] =
      of_layers(config, [](const LayerConfig& layer) { return layer.kv_heads; });
  keys["attention.key_length"] = config.head_dim;
  keys["attention.value_length"] = config.head_dim;
  keys[config.norm == Norm::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"] =
      config.norm_eps;
  if (!config.ropes.empty()) {
    const Rotary& rope = config.rope();
    keys["rope.dimension_count"] = rope.rotated > 0 ? rope.rotated : config.head_dim;
    keys["rope.freq_base"] = rope.theta;
    add_scaling(rope.scaling, keys);
  }
  std::vector<bool> slides;
  std::int64_t window = 0;
  bool all = true;
  for (std::int64_t block = 0; block < config.layers; ++block) {
    const std::int64_t own = layer_config(config, block).sliding_window;
    slides.push_back(own > 0);
    all = all && own > 0;
    if (own > 0) window = own;
  }
  if (window > 0 && window < config.max_positions) {
    keys["attention.sliding_window"] = window;
    if (!all) keys["attention.sliding_window_pattern"] = slides;
  }
  return keys;
}

}  // namespace knapsaq
