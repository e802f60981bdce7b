#include <string>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  if (!fields.has("rope_parameters") && !fields.has("rope_scaling"))
    fail_config("the field rope_parameters is missing");
  read_llama_like(fields, config);
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.sliding_window = fields.size_or("sliding_window", 0);
  // Beside what every rotary rule has: queries grow with their position, as in Llama 4.
  const bool old_spelling = fields.has("rope_scaling") && !fields.get("rope_scaling").empty();
  const Fields rope(fields.get(old_spelling ? "rope_scaling" : "rope_parameters"));
  config.query_scaling = {.beta = rope.positive("llama_4_scaling_beta"),
                          .length = rope.size("original_max_position_embeddings")};
}

void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  keys["attention.temperature_scale"] = config.query_scaling.beta;
  keys["rope.scaling.original_context_length"] = config.query_scaling.length;
  const RopeScaling& scaling = config.rope().scaling;
  if (scaling.mscale_all_dim != 0) keys["rope.scaling.yarn_log_multiplier"] = scaling.mscale_all_dim;
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  nlohmann::json& rope = config["rope_scaling"];
  if (!keys.contains("attention.temperature_scale") || !rope.is_object())
    fail_config("a mistral3 file without attention.temperature_scale is not supported");
  rope["llama_4_scaling_beta"] = keys["attention.temperature_scale"];
  if (keys.contains("rope.scaling.yarn_log_multiplier"))
    rope["mscale"] = rope["mscale_all_dim"] = keys["rope.scaling.yarn_log_multiplier"];
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  // llama.cpp takes 1 for it.
  const RopeScaling& scaling = config.rope().scaling;
  if (scaling.mscale_all_dim != 0 && scaling.mscale != 1) return "mistral3 with an mscale other than 1";
  return "";
}

}  // namespace

const Family kMinistral3 = {.model_type = "ministral3",
                            .architecture = "Ministral3ForCausalLM",
                            .defaults = {.kv_heads = 8, .head_dim = 128, .max_positions = 262144},
                            .read = read,
                            .gguf = {.architecture = "mistral3",
                                     .rotated_rows = true,
                                     .obstacle = obstacle,
                                     .write = write_gguf,
                                     .read = read_gguf}};

}  // namespace knapsaq
