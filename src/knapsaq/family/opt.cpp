#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

/// torch.nn.LayerNorm's default, which OPT has no field for.
constexpr float kLayerNormEps = 1e-5f;

void read(const Fields& fields, ModelConfig& config) {
  config.kv_heads = config.heads;
  config.head_dim = config.hidden / config.heads;
  config.ffn = fields.size("ffn_dim");
  config.embedding = fields.size_or("word_embed_proj_dim", config.hidden);
  config.positions = Positions::learned;
  config.ropes = {};
  config.norm = Norm::layer;
  config.norm_eps = kLayerNormEps;
  config.activation = parse_activation(fields.text_or("activation_function", "relu"));
  config.gated_mlp = false;
  const bool before = fields.flag_or("do_layer_norm_before", true);
  config.norms = before ? NormPlacement::before : NormPlacement::after_sum;
  config.final_norm = before && !fields.flag_or("_remove_final_layer_norm", false);
  config.norm_affine = fields.flag_or("layer_norm_elementwise_affine", true);
  config.qkv_bias = config.o_bias = config.mlp_bias = fields.flag_or("enable_bias", true);
}

}  // namespace

const Family kOpt = {.model_type = "opt",
                     .architecture = "OPTForCausalLM",
                     .defaults = {.tied = true, .max_positions = 2048},
                     .read = read};

}  // namespace knapsaq
