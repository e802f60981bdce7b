#include <string>

#include <fmt/format.h>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

// Transformers' defaults.
constexpr double kEps = 1e-5;
constexpr double kTheta = 1000000;
constexpr std::int64_t kTaps = 3;
constexpr std::int64_t kMostTaps = 64;

/// The width of the MLP: two thirds of intermediate_size, rounded up to whole multiples, unless the file says
/// that it is the width itself.
std::int64_t read_ffn(const Fields& fields) {
  const std::int64_t given =
      fields.has("block_ff_dim") ? fields.size("block_ff_dim") : fields.size("intermediate_size");
  if (!fields.flag_or("block_auto_adjust_ff_dim", true)) return given;
  auto width = 2 * given / 3;
  if (!fields.is_null("block_ffn_dim_multiplier"))
    width =
        static_cast<std::int64_t>(static_cast<double>(fields.positive_or("block_ffn_dim_multiplier", 1.0)) *
                                  static_cast<double>(width));
  const std::int64_t multiple = fields.size_or("block_multiple_of", 256);
  width = (width + multiple - 1) / multiple * multiple;
  if (width < 1 || width > kLargestSize) fail_config(fmt::format("an MLP of the width {}", width));
  return width;
}

/// Whether each layer has attention.
std::vector<bool> attention_layers(const Fields& fields, std::int64_t layers) {
  std::vector<bool> attention(static_cast<std::size_t>(layers), true);
  if (fields.has("layer_types")) {
    const auto types = fields.texts("layer_types", layers, {"conv", "full_attention"});
    for (std::size_t i = 0; i < types.size(); ++i) attention[i] = types[i] == "full_attention";
  } else if (fields.has("full_attn_idxs")) {
    const nlohmann::json& list = fields.get("full_attn_idxs");
    if (!list.is_array()) fail_config("full_attn_idxs is not a list");
    attention.assign(attention.size(), false);
    for (const nlohmann::json& layer : list) {
      if (!layer.is_number_integer()) fail_config("full_attn_idxs is not a list of layers");
      const auto number = layer.get<std::int64_t>();
      if (number >= 0 && number < layers) attention[static_cast<std::size_t>(number)] = true;
    }
  }
  return attention;
}

void read(const Fields& fields, ModelConfig& config) {
  config.tied = fields.flag_or("tie_embedding", config.tied);
  config.ffn = read_ffn(fields);
  config.norm_eps = fields.positive_or("norm_eps", kEps);
  config.ropes = {read_rope(fields, config, config.head_dim, {.theta = kTheta})};
  config.qk_norm = true;
  Recurrence convolution;
  convolution.taps = fields.size_or("conv_L_cache", kTaps, kMostTaps);
  convolution.channels = config.hidden;
  convolution.bias = fields.flag_or("conv_bias", false);
  spread_blocks(config);
  const std::vector<bool> attention = attention_layers(fields, config.layers);
  for (std::size_t i = 0; i < attention.size(); ++i)
    if (!attention[i]) config.blocks[i].become(Mixer::convolution, convolution);
}

std::vector<PublishedModule> published(const ModelConfig& config) {
  std::vector<PublishedModule> modules = {renamed("model.embedding_norm", "model.norm")};
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string block = fmt::format("model.layers.{}.", i);
    for (const auto& [theirs, own] : {std::pair{"operator_norm", "input_layernorm"},
                                      {"ffn_norm", "post_attention_layernorm"},
                                      {"feed_forward.w1", "mlp.gate_proj"},
                                      {"feed_forward.w3", "mlp.up_proj"},
                                      {"feed_forward.w2", "mlp.down_proj"},
                                      {"self_attn.out_proj", "self_attn.o_proj"},
                                      {"self_attn.q_layernorm", "self_attn.q_norm"},
                                      {"self_attn.k_layernorm", "self_attn.k_norm"}})
      modules.push_back(renamed(block + theirs, block + own));
  }
  return modules;
}

constexpr GgufName kGgufNames[] = {{"model.norm", "token_embd_norm"},
                                   {"conv.in_proj", "shortconv.in_proj"},
                                   {"conv.out_proj", "shortconv.out_proj"},
                                   {"conv.conv", "shortconv.conv"}};

std::string obstacle(const ModelConfig& config) {
  for (const LayerConfig& layer : config.blocks)
    if (layer.recurrence.bias) return "LFM2 with biases of its convolutions";
  return "";
}

void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  keys["attention.head_count"] = config.heads;
  // Layers without heads of keys are llama.cpp's convolutions.
  std::vector<std::int64_t> kv_heads;
  for (const LayerConfig& layer : config.blocks) {
    kv_heads.push_back(layer.kv_heads);
    if (!layer.is_attention()) keys["shortconv.l_cache"] = layer.recurrence.taps;
  }
  keys["attention.head_count_kv"] = kv_heads;
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  const Fields fields(keys);
  config["conv_L_cache"] = fields.size("shortconv.l_cache");
  config["block_auto_adjust_ff_dim"] = false;
  config["norm_eps"] = config["rms_norm_eps"];
  nlohmann::json types = nlohmann::json::array();
  for (const nlohmann::json& heads : fields.get("attention.head_count_kv")) {
    types.push_back(heads == 0 ? "conv" : "full_attention");
    if (heads != 0) config["num_key_value_heads"] = heads;
  }
  config["layer_types"] = types;
}

}  // namespace

const Family kLfm2 = {.model_type = "lfm2",
                      .architecture = "Lfm2ForCausalLM",
                      .defaults = {.tied = true, .kv_heads = 8, .max_positions = 128000},
                      .read = read,
                      .published = published,
                      .gguf = {.architecture = "lfm2",
                               .names = kGgufNames,
                               .obstacle = obstacle,
                               .write = write_gguf,
                               .read = read_gguf}};

}  // namespace knapsaq
