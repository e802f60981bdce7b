#include "knapsaq/family/families.h"
#include "knapsaq/family/mixtures.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.qk_norm = config.qk_norm_whole = true;
  // Published models have null.
  if (fields.has("clip_qkv")) fail_config("clip_qkv is not supported");
  Experts experts = read_experts(fields, config, "num_experts", config.ffn);
  experts.renormalise = fields.flag_or("norm_topk_prob", false);
  give_experts(
      experts, [](std::int64_t) { return true; }, config);
}

std::vector<PublishedModule> published(const ModelConfig& config) { return published_routers(config); }

/// llama.cpp's "olmoe".
std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.blocks.front().experts.renormalise) return "olmoe with norm_topk_prob";
  if (config.qkv_bias) return "olmoe with biases in attention";
  if (config.kv_heads != config.heads || config.heads * config.head_dim != config.hidden)
    return "olmoe whose keys are not as wide as the model";
  return "";
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_gguf_experts(keys, "num_experts", config);
}

}  // namespace

const Family kOlmoe = {.model_type = "olmoe",
                       .architecture = "OlmoeForCausalLM",
                       .defaults = {.max_positions = 4096},
                       .read = read,
                       .published = published,
                       .also_read = stacked_experts,
                       .gguf = {.architecture = "olmoe",
                                .obstacle = obstacle,
                                .write = write_gguf_experts,
                                .read = read_gguf,
                                .reads = kGgufExpertKeys,
                                .fused = gguf_experts}};

}  // namespace knapsaq
