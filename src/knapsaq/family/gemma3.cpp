#include "knapsaq/family/families.h"
#include "knapsaq/family/gemma.h"
#include "knapsaq/family/rope.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// Every so many layers one sees the whole text; sliding_window_pattern is its name in older files.
constexpr std::int64_t kPeriod = 6;
constexpr double kGlobalTheta = 1'000'000;
constexpr double kLocalTheta = 10'000;

/// Layers without a window have rotary positions of their own, and only these are scaled. New files have an
/// object for each kind of layer; older ones rope_theta and rope_scaling for these, rope_local_base_freq for
/// the others.
void read_ropes(const Fields& fields, ModelConfig& config) {
  const auto part = [&](const char* kind, const char* theta, double usual) {
    json object = json::object();
    if (fields.has("rope_parameters") && Fields(fields.get("rope_parameters")).has(kind))
      object = fields.get("rope_parameters")[kind];
    if (!object.is_object()) fail_config("rope_parameters is no object for each kind of layer");
    if (!Fields(object).has("rope_theta")) object["rope_theta"] = fields.positive_or(theta, usual);
    return object;
  };
  json whole = part("full_attention", "rope_theta", kGlobalTheta);
  if (fields.has("rope_scaling")) {
    const json& scaling = fields.get("rope_scaling");
    if (!scaling.is_object()) fail_config("rope_scaling is not an object");
    whole.update(scaling);
  }
  const json local = part("sliding_attention", "rope_local_base_freq", kLocalTheta);
  config.ropes = {read_rope_parameters(whole, fields, config, config.head_dim),
                  read_rope_parameters(local, fields, config, config.head_dim)};
}

void read(const Fields& fields, ModelConfig& config) {
  read_ropes(fields, config);
  const std::int64_t period = fields.size_or("sliding_window_pattern", kPeriod, kMostLayers);
  read_gemma(fields, {.period = period}, config);
  config.qk_norm = true;
  for (LayerConfig& layer : config.blocks) layer.rope = layer.sliding_window > 0 ? 1 : 0;
}

std::string obstacle(const ModelConfig& config) {
  using Kind = RopeScaling::Kind;
  if (config.attention_softcap > 0) return "Gemma 3 with a soft cap of attention scores";
  if (config.ropes[1].scaling.kind != Kind::none) return "Gemma 3 whose windows have scaled positions";
  const Kind kind = config.ropes[0].scaling.kind;
  if (kind != Kind::none && kind != Kind::linear)
    return "Gemma 3 with positions that are not scaled linearly";
  return gemma_obstacle(config);
}

void write(const ModelConfig& config, nlohmann::ordered_json& keys) {
  write_gemma_keys(config, kPeriod, keys);
  keys["rope.freq_base_swa"] = config.ropes[1].theta;
}

void read_keys(const json& keys, json& config) {
  read_gemma_keys(keys, kPeriod, config);
  // llama.cpp's default, which older files rely on.
  config["rope_local_base_freq"] =
      keys.contains("rope.freq_base_swa") ? keys["rope.freq_base_swa"] : json(kLocalTheta);
}

}  // namespace

const Family kGemma3 = {.model_type = "gemma3_text",
                        .architecture = "Gemma3ForCausalLM",
                        // Published multimodal models leave out what is Transformers' default.
                        .defaults = {.tied = true,
                                     .heads = 8,
                                     .kv_heads = 4,
                                     .head_dim = 256,
                                     .vocab = 262'208,
                                     .max_positions = 131'072},
                        .read = read,
                        .gguf = {.architecture = "gemma3",
                                 .names = kGemmaNames,
                                 .obstacle = obstacle,
                                 .windows = true,
                                 .write = write,
                                 .read = read_keys}};

}  // namespace knapsaq
