#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "knapsaq/family/families.h"
#include "knapsaq/family/hybrids.h"
#include "knapsaq/family/mixtures.h"

namespace knapsaq {
namespace {

void append(std::vector<PublishedModule> more, std::vector<PublishedModule>& modules) {
  std::ranges::move(more, std::back_inserter(modules));
}

void read(const Fields& fields, ModelConfig& config) {
  read_hybrid(fields, config);
  Experts experts = read_experts(fields, config, "num_experts", fields.size_or("moe_intermediate_size", 512));
  experts.shared_ffn = fields.size_or("shared_expert_intermediate_size", 512);
  experts.shared_gate = true;
  give_experts(
      experts, [](std::int64_t) { return true; }, config);
}

/// As the BF16 files have the experts; those in FP8 have each one alone.
std::vector<PublishedModule> published(const ModelConfig& config) {
  std::vector<PublishedModule> modules = published_gates(config);
  append(published_routers(config), modules);
  append(stacked_experts(config), modules);
  return modules;
}

std::vector<PublishedModule> fused(const ModelConfig& config) {
  std::vector<PublishedModule> modules = gguf_gates(config);
  append(gguf_experts(config), modules);
  return modules;
}

void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  write_hybrid_gguf(config, keys);
  write_gguf_experts(config, keys);
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  read_hybrid_gguf(keys, config);
  read_gguf_experts(keys, "num_experts", config);
}

}  // namespace

const Family kQwen35Moe = {.model_type = "qwen3_5_moe_text",
                           .architecture = "Qwen3_5MoeForCausalLM",
                           .defaults = {.kv_heads = 2, .head_dim = 256, .max_positions = 32768},
                           .read = read,
                           .published = published,
                           .carried = kHybridCarried,
                           .gguf = {.architecture = "qwen35moe",
                                    .names = kHybridGgufNames,
                                    .write = write_gguf,
                                    .read = read_gguf,
                                    .reads = kGgufExpertKeys,
                                    .fused = fused}};

}  // namespace knapsaq
