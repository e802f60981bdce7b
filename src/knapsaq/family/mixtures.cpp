#include "knapsaq/family/mixtures.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

namespace knapsaq {
namespace {

/// Of all layers together: five times as many as the largest models have (DeepSeek-V3: 256 in 58 layers).
constexpr std::int64_t kMostExperts = 1 << 17;

}  // namespace

Experts read_experts(const Fields& fields, const ModelConfig& config, const char* count, std::int64_t ffn) {
  Experts experts;
  // Transformers has one name for the other, and writes whichever it was given.
  for (const char* other : {"num_experts", "num_local_experts"})
    if (!fields.has(count) && fields.has(other)) count = other;
  experts.count = fields.size(count, std::max<std::int64_t>(1, kMostExperts / config.layers));
  experts.chosen = fields.size("num_experts_per_tok");
  experts.ffn = ffn;
  if (experts.chosen > experts.count)
    fail_config(
        fmt::format("num_experts_per_tok {} is more than the {} experts", experts.chosen, experts.count));
  return experts;
}

void give_experts(const Experts& experts, const std::function<bool(std::int64_t layer)>& is_mixture,
                  ModelConfig& config) {
  std::vector<LayerConfig> blocks;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    blocks.push_back(layer_config(config, layer));
    if (!is_mixture(layer)) continue;
    blocks.back().experts = experts;
    blocks.back().ffn = experts.shared_ffn;
  }
  config.blocks = std::move(blocks);
}

std::function<bool(std::int64_t)> qwen_sparse_layers(const Fields& fields, const ModelConfig& config) {
  const std::int64_t step = fields.size_or("decoder_sparse_step", 1, kMostLayers);
  std::vector<bool> dense(static_cast<std::size_t>(config.layers));
  if (fields.has("mlp_only_layers")) {
    const nlohmann::json& list = fields.get("mlp_only_layers");
    if (!list.is_array()) fail_config("mlp_only_layers is not a list");
    for (const nlohmann::json& layer : list) {
      if (!layer.is_number_integer()) fail_config("mlp_only_layers is not a list of layers");
      // Numbers of layers that there are not have no effect, as in Transformers.
      const auto number = layer.get<std::int64_t>();
      if (number >= 0 && number < config.layers) dense[static_cast<std::size_t>(number)] = true;
    }
  }
  return [step, dense = std::move(dense)](std::int64_t layer) {
    return !dense[static_cast<std::size_t>(layer)] && (layer + 1) % step == 0;
  };
}

void for_mixtures(const ModelConfig& config,
                  const std::function<void(const std::string& block, const Experts& experts)>& function) {
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    if (const LayerConfig own = layer_config(config, layer); own.is_mixture())
      function(fmt::format("model.layers.{}.", layer), own.experts);
}

std::string expert_module(std::string_view block, std::int64_t expert, std::string_view projection) {
  return fmt::format("{}mlp.experts.{}.{}", block, expert, projection);
}

std::vector<PublishedModule> published_routers(const ModelConfig& config, std::string_view router) {
  std::vector<PublishedModule> modules;
  for_mixtures(config, [&](const std::string& block, const Experts&) {
    modules.push_back(renamed(block + std::string(router), block + "mlp.router"));
  });
  return modules;
}

std::vector<PublishedModule> stacked_experts(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  for_mixtures(config, [&](const std::string& block, const Experts& experts) {
    PublishedModule both{
        .name = block + "mlp.experts.gate_up_proj", .parts = {}, .stacked = true, .stacks = experts.count};
    PublishedModule down{
        .name = block + "mlp.experts.down_proj", .parts = {}, .stacked = true, .stacks = experts.count};
    for (std::int64_t e = 0; e < experts.count; ++e) {
      const std::int64_t width = experts.ffn;
      both.parts.push_back({expert_module(block, e, "gate_proj"), {.first = 2 * width * e, .count = width}});
      both.parts.push_back(
          {expert_module(block, e, "up_proj"), {.first = 2 * width * e + width, .count = width}});
      down.parts.push_back(
          {expert_module(block, e, "down_proj"), {.first = config.hidden * e, .count = config.hidden}});
    }
    modules.push_back(std::move(both));
    modules.push_back(std::move(down));
  });
  return modules;
}

const Experts* experts_everywhere(const ModelConfig& config) {
  for (const LayerConfig& layer : config.blocks)
    if (!layer.is_mixture()) return nullptr;
  return config.blocks.empty() ? nullptr : &config.blocks.front().experts;
}

std::vector<PublishedModule> gguf_experts(const ModelConfig& config) {
  std::vector<PublishedModule> modules;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const LayerConfig own = layer_config(config, layer);
    if (!own.is_mixture()) continue;
    const std::string block = fmt::format("model.layers.{}.", layer);
    for (const auto& [name, projection, rows] : {std::tuple{"ffn_gate_exps", "gate_proj", own.experts.ffn},
                                                 {"ffn_up_exps", "up_proj", own.experts.ffn},
                                                 {"ffn_down_exps", "down_proj", config.hidden}}) {
      PublishedModule stack{.name = fmt::format("blk.{}.{}", layer, name),
                            .parts = {},
                            .stacked = true,
                            .stacks = own.experts.count};
      for (std::int64_t e = 0; e < own.experts.count; ++e)
        stack.parts.push_back({expert_module(block, e, projection), {.first = rows * e, .count = rows}});
      modules.push_back(std::move(stack));
    }
  }
  return modules;
}

void write_gguf_experts(const ModelConfig& config, nlohmann::ordered_json& keys) {
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const Experts experts = layer_config(config, layer).experts;
    if (experts.count == 0) continue;
    keys["expert_count"] = experts.count;
    keys["expert_used_count"] = experts.chosen;
    keys["expert_feed_forward_length"] = experts.ffn;
    if (experts.shared_ffn > 0) keys["expert_shared_feed_forward_length"] = experts.shared_ffn;
    keys["feed_forward_length"] = config.ffn;
    return;
  }
}

void read_gguf_experts(const nlohmann::json& keys, const char* count, nlohmann::json& config) {
  for (const auto& [key, field] : {std::pair<const char*, const char*>{"expert_count", count},
                                   {"expert_used_count", "num_experts_per_tok"},
                                   {"expert_feed_forward_length", "moe_intermediate_size"},
                                   {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"}})
    if (keys.contains(key)) config[field] = keys[key];
}

}  // namespace knapsaq
