#include "knapsaq/family/families.h"
#include "knapsaq/family/mixtures.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.qk_norm = true;
  // All layers slide or none: there is no layer_types.
  if (fields.flag_or("use_sliding_window", false) && !fields.is_null("sliding_window"))
    config.sliding_window = fields.size_or("sliding_window", 4096);
  Experts experts = read_experts(fields, config, "num_experts", fields.size_or("moe_intermediate_size", 768));
  experts.renormalise = fields.flag_or("norm_topk_prob", false);
  give_experts(experts, qwen_sparse_layers(fields, config), config);
}

std::vector<PublishedModule> published(const ModelConfig& config) { return published_routers(config); }

/// llama.cpp's "qwen3moe".
std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  const Experts* experts = experts_everywhere(config);
  if (experts == nullptr) return "qwen3moe with layers without experts";
  if (!experts->renormalise) return "qwen3moe without norm_topk_prob";
  if (config.qkv_bias) return "qwen3moe with biases in attention";
  return "";
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_gguf_experts(keys, "num_experts", config);
  config["norm_topk_prob"] = true;
}

}  // namespace

const Family kQwen3Moe = {.model_type = "qwen3_moe",
                          .architecture = "Qwen3MoeForCausalLM",
                          .defaults = {.kv_heads = 4, .max_positions = 32768},
                          .read = read,
                          .published = published,
                          .also_read = stacked_experts,
                          .gguf = {.architecture = "qwen3moe",
                                   .obstacle = obstacle,
                                   .write = write_gguf_experts,
                                   .read = read_gguf,
                                   .reads = kGgufExpertKeys,
                                   .fused = gguf_experts}};

}  // namespace knapsaq
