#include <string>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.mlp_bias = fields.flag_or("mlp_bias", false);
}

std::string obstacle(const ModelConfig& config) {
  return config.activation == Activation::silu ? "" : "activations other than silu";
}

}  // namespace

const Family kLlama = {.model_type = "llama",
                       .architecture = "LlamaForCausalLM",
                       .read = read,
                       .gguf = {.architecture = "llama", .rotated_rows = true, .obstacle = obstacle}};

}  // namespace knapsaq
