#include "knapsaq/family/families.h"
#include "knapsaq/family/mixtures.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.qkv_bias = fields.flag_or("qkv_bias", true);
  Experts experts =
      read_experts(fields, config, "num_experts", fields.size_or("moe_intermediate_size", 1408));
  experts.renormalise = fields.flag_or("norm_topk_prob", false);
  experts.shared_ffn = fields.size_or("shared_expert_intermediate_size", 5632);
  experts.shared_gate = true;
  give_experts(experts, qwen_sparse_layers(fields, config), config);
  if (!fields.flag_or("use_sliding_window", false) || fields.is_null("sliding_window")) return;
  config.sliding_window = fields.size_or("sliding_window", 4096);
  // layer_types, or what Transformers makes of max_window_layers.
  std::vector<std::string> types;
  if (fields.has("layer_types"))
    types = fields.texts("layer_types", config.layers, {"full_attention", "sliding_attention"});
  const std::int64_t end = fields.size_or("max_window_layers", 28, kMostLayers, 0);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const auto i = static_cast<std::size_t>(layer);
    const bool slides = types.empty() ? layer % 2 == 0 && layer < end : types[i] == "sliding_attention";
    if (slides) config.blocks[i].sliding_window = config.sliding_window;
  }
}

std::vector<PublishedModule> published(const ModelConfig& config) { return published_routers(config); }

/// llama.cpp's "qwen2moe".
std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  const Experts* experts = experts_everywhere(config);
  if (experts == nullptr) return "qwen2moe with layers without experts";
  if (experts->renormalise) return "qwen2moe with norm_topk_prob";
  if (config.heads * config.head_dim != config.hidden) return "qwen2moe with a head_dim of its own";
  return "";
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_gguf_experts(keys, "num_experts", config);
  config["qkv_bias"] = config.value("attention_bias", true);
}

}  // namespace

const Family kQwen2Moe = {.model_type = "qwen2_moe",
                          .architecture = "Qwen2MoeForCausalLM",
                          .defaults = {.kv_heads = 16, .max_positions = 32768},
                          .read = read,
                          .published = published,
                          .also_read = stacked_experts,
                          .gguf = {.architecture = "qwen2moe",
                                   .obstacle = obstacle,
                                   .write = write_gguf_experts,
                                   .read = read_gguf,
                                   .reads = kGgufExpertKeys,
                                   .fused = gguf_experts}};

}  // namespace knapsaq
