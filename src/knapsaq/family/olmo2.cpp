#include "knapsaq/family/families.h"
#include "knapsaq/family/olmo.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  read_olmo_norms(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
}

/// llama.cpp has one architecture for OLMo 2 and 3; windows tell them apart.
void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  if (!keys.contains("attention.sliding_window")) return;
  config["model_type"] = "olmo3";
  config["architectures"] = {"Olmo3ForCausalLM"};
}

}  // namespace

const Family kOlmo2 = {
    .model_type = "olmo2",
    .architecture = "Olmo2ForCausalLM",
    .read = read,
    .gguf = {
        .architecture = "olmo2", .names = kOlmoGgufNames, .obstacle = olmo_gguf_obstacle, .read = read_gguf}};

}  // namespace knapsaq
