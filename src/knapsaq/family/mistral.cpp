#include <string>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// Transformers' default; null means none.
constexpr std::int64_t kWindow = 4096;

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  if (!fields.is_null("sliding_window")) config.sliding_window = fields.size_or("sliding_window", kWindow);
}

std::string obstacle(const ModelConfig& config) {
  return config.activation == Activation::silu ? "" : "activations other than silu";
}

}  // namespace

const Family kMistral = {.model_type = "mistral",
                         .architecture = "MistralForCausalLM",
                         .defaults = {.kv_heads = 8, .max_positions = 131072},
                         .read = read,
                         .gguf = {.architecture = "llama", .rotated_rows = true, .obstacle = obstacle}};

}  // namespace knapsaq
