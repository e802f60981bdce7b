#include "knapsaq/family/gemma.h"

#include <array>
#include <cmath>
#include <vector>

#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// Layers of the models of 27 billion parameters, whose scores llama.cpp's code scales otherwise: it goes by
/// this number (llama.cpp's src/models/gemma2.cpp, gemma3.cpp).
constexpr std::array<std::int64_t, 2> kLargest = {46, 62};

/// What llama.cpp's code divides the squares of scores by.
std::int64_t llama_scalar(std::int64_t layers, std::int64_t hidden, std::int64_t heads,
                          std::int64_t head_dim) {
  for (const std::int64_t one : kLargest)
    if (layers == one) return hidden / heads;
  return head_dim;
}

/// A soft cap: Transformers' default where the field is absent, none where it is null.
float softcap(const Fields& fields, const char* name, double fallback) {
  if (fields.is_null(name)) return 0;
  return fields.has(name) ? fields.positive(name) : static_cast<float>(fallback);
}

bool slides_usually(std::int64_t layer, std::int64_t period) { return (layer + 1) % period != 0; }

}  // namespace

void read_gemma(const Fields& fields, const GemmaDefaults& defaults, ModelConfig& config) {
  constexpr double kEps = 1e-6;
  constexpr double kQueryScalar = 256;
  constexpr std::int64_t kWindow = 4096;
  if (fields.flag_or("use_bidirectional_attention", false))
    fail_config("use_bidirectional_attention is true: an encoder of texts, which predicts no tokens");
  config.ffn = fields.size("intermediate_size");
  config.norm_eps = fields.positive_or("rms_norm_eps", kEps);
  // hidden_act is older, and Transformers does not look at it.
  config.activation = parse_activation(fields.text_or("hidden_activation", "gelu_pytorch_tanh"));
  config.norms = NormPlacement::around;
  config.norm_offset = 1;
  config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden)));
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  const float scalar = fields.positive_or("query_pre_attn_scalar", kQueryScalar);
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  config.attention_softcap = softcap(fields, "attn_logit_softcapping", defaults.attention_softcap);
  config.logit_softcap = softcap(fields, "final_logit_softcapping", defaults.logit_softcap);

  // Layers that have a window are of a kind of their own, even where it is no narrower than any text.
  const std::int64_t window =
      fields.is_null("sliding_window") ? config.max_positions : fields.size_or("sliding_window", kWindow);
  if (fields.has("layer_types")) {
    read_windows(fields, window, config);
    return;
  }
  spread_blocks(config);
  for (std::int64_t i = 0; i < config.layers; ++i)
    config.blocks[static_cast<std::size_t>(i)].sliding_window =
        slides_usually(i, defaults.period) ? window : 0;
}

std::string gemma_obstacle(const ModelConfig& config) {
  if (config.activation != Activation::gelu_tanh)
    return "Gemma with other activations than gelu_pytorch_tanh";
  if (config.qkv_bias) return "Gemma with biases in attention";
  const auto scalar =
      static_cast<double>(llama_scalar(config.layers, config.hidden, config.heads, config.head_dim));
  if (static_cast<float>(1 / std::sqrt(scalar)) != config.attention_scale)
    return "Gemma with a query_pre_attn_scalar that does not follow from its sizes";
  return "";
}

void write_gemma_keys(const ModelConfig& config, std::int64_t period, nlohmann::ordered_json& keys) {
  if (config.attention_softcap > 0) keys["attn_logit_softcapping"] = config.attention_softcap;
  if (config.logit_softcap > 0) keys["final_logit_softcapping"] = config.logit_softcap;
  std::int64_t window = config.max_positions;
  std::vector<bool> slides;
  bool usual = true;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    if (layer.sliding_window > 0) window = layer.sliding_window;
    slides.push_back(layer.sliding_window > 0);
    usual = usual && slides.back() == slides_usually(i, period);
  }
  keys["attention.sliding_window"] = window;
  if (usual)
    keys.erase("attention.sliding_window_pattern");
  else
    keys["attention.sliding_window_pattern"] = slides;
}

void read_gemma_keys(const nlohmann::json& keys, std::int64_t period, nlohmann::json& config) {
  const auto copy = [&](const char* key, const char* field) {
    config[field] = keys.contains(key) ? keys[key] : nlohmann::json();
  };
  copy("attn_logit_softcapping", "attn_logit_softcapping");
  copy("final_logit_softcapping", "final_logit_softcapping");
  const Fields fields(config);
  config["query_pre_attn_scalar"] =
      llama_scalar(fields.size("num_hidden_layers", kMostLayers), fields.size("hidden_size"),
                   fields.size("num_attention_heads"), fields.size("head_dim", kLargestHead));
  nlohmann::json types = nlohmann::json::array();
  if (keys.contains("attention.sliding_window_pattern") &&
      keys["attention.sliding_window_pattern"].is_array()) {
    for (const nlohmann::json& slides : keys["attention.sliding_window_pattern"])
      types.push_back(slides == true || slides == 1 ? "sliding_attention" : "full_attention");
  } else {
    for (std::int64_t i = 0; i < config["num_hidden_layers"]; ++i)
      types.push_back(slides_usually(i, period) ? "sliding_attention" : "full_attention");
  }
  config["layer_types"] = types;
}

}  // namespace knapsaq
