#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.mlp_bias = fields.flag_or("mlp_bias", false);
  config.embedding_scale = fields.positive_or("embedding_multiplier", 1);
  config.residual_scale = fields.positive_or("residual_multiplier", 1);
  config.attention_scale = fields.positive_or("attention_multiplier", 1);
  config.logit_scale = 1 / fields.positive_or("logits_scaling", 1);
}

/// llama.cpp's keys and the fields of config.json with the same numbers.
constexpr std::array<std::pair<const char*, const char*>, 4> kScales{
    {{"embedding_scale", "embedding_multiplier"},
     {"residual_scale", "residual_multiplier"},
     {"attention.scale", "attention_multiplier"},
     {"logit_scale", "logits_scaling"}}};

void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  keys["embedding_scale"] = config.embedding_scale;
  keys["residual_scale"] = config.residual_scale;
  keys["attention.scale"] = config.attention_scale;
  keys["logit_scale"] = 1 / config.logit_scale;
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  for (const auto& [key, field] : kScales)
    if (keys.contains(key)) config[field] = keys[key];
  // llama.cpp's default is the usual scale, Transformers' is one.
  if (!keys.contains("attention.scale"))
    config["attention_multiplier"] = 1 / std::sqrt(config.at("head_dim").get<double>());
}

std::string obstacle(const ModelConfig& config) {
  return config.activation == Activation::silu ? "" : "activations other than silu";
}

constexpr std::array<std::string_view, 3> kReads{"embedding_scale", "residual_scale", "logit_scale"};

}  // namespace

const Family kGranite = {.model_type = "granite",
                         .architecture = "GraniteForCausalLM",
                         .read = read,
                         .gguf = {.architecture = "granite",
                                  .rotated_rows = true,
                                  .obstacle = obstacle,
                                  .write = write_gguf,
                                  .read = read_gguf,
                                  .reads = kReads}};

}  // namespace knapsaq
