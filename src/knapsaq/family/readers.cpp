#include "knapsaq/family/readers.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

/// The same for all RMSNorm families of Transformers.
constexpr double kDefaultEps = 1e-6;

}  // namespace

Activation parse_activation(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, Activation>, 9> kNames{
      {{"silu", Activation::silu},
       {"swish", Activation::silu},
       {"relu", Activation::relu},
       {"gelu", Activation::gelu},
       {"gelu_python", Activation::gelu},
       {"gelu_new", Activation::gelu_tanh},
       {"gelu_fast", Activation::gelu_tanh},
       {"gelu_pytorch_tanh", Activation::gelu_tanh},
       {"gelu_python_tanh", Activation::gelu_tanh}}};
  const auto found = std::ranges::find(kNames, name, &std::pair<std::string_view, Activation>::first);
  if (found == kNames.end())
    fail_config(fmt::format("the activation {} is not supported; supported are silu, relu, gelu and gelu_new",
                            in_quotes(name)));
  return found->second;
}

void read_mlp_and_norms(const Fields& fields, ModelConfig& config) {
  config.ffn = fields.size("intermediate_size");
  config.norm_eps = fields.positive_or("rms_norm_eps", kDefaultEps);
  config.activation = parse_activation(fields.text_or("hidden_act", "silu"));
}

void read_llama_like(const Fields& fields, ModelConfig& config, const RopeDefaults& rope) {
  read_mlp_and_norms(fields, config);
  config.ropes = {read_rope(fields, config, config.head_dim, rope)};
}

void read_rms_silu(const Fields& fields, ModelConfig& config, const RopeDefaults& rope) {
  config.norm_eps = fields.positive_or("rms_norm_eps", kDefaultEps);
  config.activation = parse_activation(fields.text_or("hidden_act", "silu"));
  config.ropes = {read_rope(fields, config, config.head_dim, rope)};
}

void spread_blocks(ModelConfig& config) {
  std::vector<LayerConfig> blocks;
  for (std::int64_t block = 0; block < config.layers; ++block) blocks.push_back(layer_config(config, block));
  config.blocks = std::move(blocks);
}

std::vector<std::string> read_windows(const Fields& fields, std::int64_t window, ModelConfig& config) {
  std::vector<std::string> types =
      fields.texts("layer_types", config.layers, {"full_attention", "sliding_attention"});
  std::vector<bool> slides;
  for (const std::string& type : types) slides.push_back(type == "sliding_attention");
  give_windows(slides, window, config);
  return types;
}

void give_windows(const std::vector<bool>& slides, std::int64_t window, ModelConfig& config) {
  config.sliding_window = 0;
  if (config.blocks.empty()) spread_blocks(config);
  for (std::size_t i = 0; i < slides.size(); ++i) config.blocks.at(i).sliding_window = slides[i] ? window : 0;
}

void read_qwen_window(const Fields& fields, std::int64_t usual, ModelConfig& config) {
  if (fields.is_null("sliding_window")) return;
  const std::int64_t window = fields.size_or("sliding_window", usual);
  if (!fields.flag_or("use_sliding_window", false)) return;
  if (fields.has("layer_types")) {
    read_windows(fields, window, config);
    return;
  }
  constexpr std::int64_t kMaxWindowLayers = 28;  // Transformers' default
  const std::int64_t from = fields.size_or("max_window_layers", kMaxWindowLayers, kMostLayers, 0);
  if (from >= config.layers) return;
  config.sliding_window = window;
  config.sliding_from_layer = from;
}

}  // namespace knapsaq
