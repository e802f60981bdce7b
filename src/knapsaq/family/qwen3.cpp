#include <string>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.qk_norm = true;
  read_qwen_window(fields, 4096, config);
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "qwen3 with Llama 3's rescaling of positions";
  if (config.qkv_bias) return "qwen3 with biases in attention";
  return "";
}

}  // namespace

const Family kQwen3 = {.model_type = "qwen3",
                       .architecture = "Qwen3ForCausalLM",
                       .defaults = {.kv_heads = 32, .head_dim = 128, .max_positions = 32768},
                       .read = read,
                       .gguf = {.architecture = "qwen3", .obstacle = obstacle}};

}  // namespace knapsaq
