#include <fmt/format.h>

#include "knapsaq/family/families.h"
#include "knapsaq/family/mixtures.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config, {.theta = 1e6});
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.sliding_window = fields.size_or("sliding_window", 0);
  give_experts(
      read_experts(fields, config, "num_local_experts", config.ffn), [](std::int64_t) { return true; },
      config);
}

/// Mistral's own names: w1, w3 and w2 are gate, up and down.
std::vector<PublishedModule> published(const ModelConfig& config) {
  std::vector<PublishedModule> modules = published_routers(config, "block_sparse_moe.gate");
  for_mixtures(config, [&](const std::string& block, const Experts& experts) {
    for (std::int64_t e = 0; e < experts.count; ++e)
      for (const auto& [name, own] : {std::pair{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}})
        modules.push_back(renamed(fmt::format("{}block_sparse_moe.experts.{}.{}", block, e, name),
                                  expert_module(block, e, own)));
  });
  return modules;
}

/// As Transformers 5 has it in memory.
std::vector<PublishedModule> also_read(const ModelConfig& config) {
  std::vector<PublishedModule> modules = published_routers(config);
  for (PublishedModule& stack : stacked_experts(config)) modules.push_back(std::move(stack));
  return modules;
}

/// llama.cpp divides the weights of the chosen experts by their sum in its "llama" code.
std::string obstacle(const ModelConfig& config) {
  return config.activation == Activation::silu ? "" : "activations other than silu";
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_gguf_experts(keys, "num_local_experts", config);
}

}  // namespace

const Family kMixtral = {.model_type = "mixtral",
                         .architecture = "MixtralForCausalLM",
                         .defaults = {.kv_heads = 8, .max_positions = 131072},
                         .read = read,
                         .published = published,
                         .also_read = also_read,
                         .gguf = {.architecture = "llama",
                                  .rotated_rows = true,
                                  .obstacle = obstacle,
                                  .write = write_gguf_experts,
                                  .read = read_gguf,
                                  .reads = kGgufExpertKeys,
                                  .fused = gguf_experts}};

}  // namespace knapsaq
