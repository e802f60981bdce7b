// Phi-3 and Phi-4, the mini ones too.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/family/families.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

void read(const Fields& fields, ModelConfig& config) {
  read_llama_like(fields, config);
  config.norm_eps = fields.positive_or("rms_norm_eps", 1e-5);
  config.sliding_window = fields.size_or("sliding_window", 0);
}

/// q, k and v lie one below the other in qkv_proj, gate and up in gate_up_proj.
std::vector<PublishedModule> fused(const ModelConfig& config, std::string_view layers,
                                   std::string_view qkv_name, std::string_view gate_up_name) {
  const std::int64_t q = config.heads * config.head_dim;
  const std::int64_t kv = config.kv_heads * config.head_dim;
  std::vector<PublishedModule> modules;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const std::string from = fmt::format("{}{}.", layers, layer);
    const std::pair<std::string, std::int64_t> qkv[] = {{prefix + "self_attn.q_proj", q},
                                                        {prefix + "self_attn.k_proj", kv},
                                                        {prefix + "self_attn.v_proj", kv}};
    const std::pair<std::string, std::int64_t> gate_up[] = {{prefix + "mlp.gate_proj", config.ffn},
                                                            {prefix + "mlp.up_proj", config.ffn}};
    modules.push_back(stacked_rows(from + std::string(qkv_name), qkv));
    modules.push_back(stacked_rows(from + std::string(gate_up_name), gate_up));
  }
  return modules;
}

std::vector<PublishedModule> published(const ModelConfig& config) {
  return fused(config, "model.layers.", "self_attn.qkv_proj", "mlp.gate_up_proj");
}

std::vector<PublishedModule> fused_gguf(const ModelConfig& config) {
  return fused(config, "blk.", "attn_qkv", "ffn_up");
}

/// Without the key, versions of llama.cpp until 2025 take a file for Phi-3's, with its window.
void write_gguf(const ModelConfig& /*config*/, nlohmann::ordered_json& keys) {
  if (!keys.contains("attention.sliding_window")) keys["attention.sliding_window"] = 0;
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::silu) return "activations other than silu";
  if (config.heads * config.head_dim != config.hidden)
    return "phi3 with heads of another size than hidden / heads";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "phi3 with Llama 3's rescaling of positions";
  return "";
}

}  // namespace

const Family kPhi3 = {
    .model_type = "phi3",
    .architecture = "Phi3ForCausalLM",
    .defaults = {.max_positions = 4096},
    .read = read,
    .published = published,
    .gguf = {.architecture = "phi3", .obstacle = obstacle, .write = write_gguf, .fused = fused_gguf}};

}  // namespace knapsaq
