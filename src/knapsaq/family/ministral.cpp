#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// Transformers' default; null means none.
constexpr std::int64_t kWindow = 4096;

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  if (fields.is_null("sliding_window")) return;
  const std::int64_t window = fields.size_or("sliding_window", kWindow);
  if (fields.has("layer_types")) {
    read_windows(fields, window, config);
  } else {
    config.sliding_window = window;
  }
}

}  // namespace

const Family kMinistral = {.model_type = "ministral",
                           .architecture = "MinistralForCausalLM",
                           .defaults = {.kv_heads = 8, .max_positions = 131072},
                           .read = read};

}  // namespace knapsaq
