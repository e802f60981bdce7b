#include <string>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = true;
  read_qwen_window(fields, 4096, config);
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "qwen2 with Llama 3's rescaling of positions";
  return "";
}

}  // namespace

const Family kQwen2 = {.model_type = "qwen2",
                       .architecture = "Qwen2ForCausalLM",
                       .defaults = {.kv_heads = 32, .max_positions = 32768},
                       .read = read,
                       .gguf = {.architecture = "qwen2", .obstacle = obstacle}};

}  // namespace knapsaq
