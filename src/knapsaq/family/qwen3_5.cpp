#include "knapsaq/family/families.h"
#include "knapsaq/family/hybrids.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  config.ffn = fields.size("intermediate_size");
  read_hybrid(fields, config);
}

}  // namespace

const Family kQwen35 = {.model_type = "qwen3_5_text",
                        .architecture = "Qwen3_5ForCausalLM",
                        .defaults = {.kv_heads = 4, .head_dim = 256, .max_positions = 32768},
                        .read = read,
                        .published = published_gates,
                        .carried = kHybridCarried,
                        .gguf = {.architecture = "qwen35",
                                 .names = kHybridGgufNames,
                                 .write = write_hybrid_gguf,
                                 .read = read_hybrid_gguf,
                                 .fused = gguf_gates}};

}  // namespace knapsaq
