// GPT-NeoX and Pythia.

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
  config.kv_heads = config.heads;
  config.ffn = fields.size("intermediate_size");
  config.norm = Norm::layer;
  config.norm_eps = fields.positive_or("layer_norm_eps", 1e-5);
  config.activation = parse_activation(fields.text_or("hidden_act", "gelu"));
  config.gated_mlp = false;
  config.parallel = fields.flag_or("use_parallel_residual", true);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", true);
  config.mlp_bias = true;
  const RopeDefaults rope{.theta = static_cast<double>(fields.positive_or("rotary_emb_base", 10000)),
                          .rotated = static_cast<double>(fields.positive_or("rotary_pct", 0.25))};
  config.ropes = {read_rope(fields, config, config.head_dim, rope)};
}

/// The heads of query_key_value follow each other, each with its rows of q, of k and of v.
std::vector<PublishedModule> published(const ModelConfig& config) {
  std::vector<PublishedModule> modules = {renamed("gpt_neox.embed_in", "model.embed_tokens"),
                                          renamed("gpt_neox.final_layer_norm", "model.norm"),
                                          renamed("embed_out", "lm_head")};
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string from = fmt::format("gpt_neox.layers.{}.", layer);
    const std::string to = fmt::format("model.layers.{}.", layer);
    PublishedModule qkv{.name = from + "attention.query_key_value", .parts = {}};
    for (int part = 0; part < 3; ++part)
      qkv.parts.push_back({.name = fmt::format("{}self_attn.{}_proj", to, "qkv"[part]),
                           .rows = {.first = part * config.head_dim,
                                    .count = config.head_dim,
                                    .stride = 3 * config.head_dim,
                                    .repeats = config.heads}});
    modules.push_back(std::move(qkv));
    for (const auto& [published, own] : {std::pair{"attention.dense", "self_attn.o_proj"},
                                         {"mlp.dense_h_to_4h", "mlp.up_proj"},
                                         {"mlp.dense_4h_to_h", "mlp.down_proj"},
                                         {"input_layernorm", "input_layernorm"},
                                         {"post_attention_layernorm", "post_attention_layernorm"}})
      modules.push_back(renamed(from + published, to + own));
  }
  return modules;
}

/// q, k and v one below the other.
std::vector<PublishedModule> fused_gguf(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  const std::int64_t rows = config.heads * config.head_dim;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
    const std::pair<std::string, std::int64_t> qkv[] = {
        {prefix + "q_proj", rows}, {prefix + "k_proj", rows}, {prefix + "v_proj", rows}};
    modules.push_back(stacked_rows(fmt::format("blk.{}.attn_qkv", layer), qkv));
  }
  return modules;
}

void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  keys["use_parallel_residual"] = config.parallel;
}

void read_gguf(const nlohmann::json& keys, nlohmann::json& config) {
  if (keys.contains("use_parallel_residual")) config["use_parallel_residual"] = keys["use_parallel_residual"];
  config["hidden_act"] = "gelu";
  config["attention_bias"] = true;
  // Here it has another name and default.
  config["rotary_pct"] = config.value("partial_rotary_factor", 1.0);
}

std::string obstacle(const ModelConfig& config) {
  if (config.activation != Activation::gelu_tanh && config.activation != Activation::gelu)
    return "activations other than gelu";
  if (!config.qkv_bias) return "gptneox without biases";
  if (config.tied) return "gptneox whose head is the embedding";
  if (config.rope().scaling.kind == RopeScaling::Kind::llama3)
    return "gptneox with Llama 3's rescaling of positions";
  return "";
}

}  // namespace

const Family kGptNeoX = {.model_type = "gpt_neox",
                         .architecture = "GPTNeoXForCausalLM",
                         .defaults = {.max_positions = 2048},
                         .read = read,
                         .published = published,
                         .gguf = {.architecture = "gptneox",
                                  .obstacle = obstacle,
                                  .write = write_gguf,
                                  .read = read_gguf,
                                  .fused = fused_gguf}};

}  // namespace knapsaq
