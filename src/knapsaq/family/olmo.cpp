#include "knapsaq/family/olmo.h"

namespace knapsaq {

void read_olmo_norms(const Fields& fields, ModelConfig& config) {
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.norms = NormPlacement::behind;
  config.qk_norm = config.qk_norm_whole = true;
}

std::string olmo_gguf_obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.o_bias) return "olmo2 with biases";
  if (config.tied) return "olmo2 whose head is the embedding";
  if (config.heads * config.head_dim != config.hidden)
    return "olmo2 with heads of another size than hidden / heads";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "olmo2 with Llama 3's rescaling of positions";
  for (const Rotary& rope : config.ropes)
    if (rope.theta != config.rope().theta) return "olmo2 with two bases of rotary positions";
  return "";
}

}  // namespace knapsaq
