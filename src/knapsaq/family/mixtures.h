#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

// Pieces that families of mixtures of experts share.

/// The number of experts from the field `count` and of those that a token uses from num_experts_per_tok;
/// `ffn` is the width of one. Throws InputError if a token uses more than there are, and for more experts in
/// all layers than any model has.
Experts read_experts(const Fields& fields, const ModelConfig& config, const char* count, std::int64_t ffn);

/// Gives every layer that is_mixture() says the experts, and all others the dense MLP that `config` has.
void give_experts(const Experts& experts, const std::function<bool(std::int64_t layer)>& is_mixture,
                  ModelConfig& config);

/// As Qwen's models say which layers are mixtures: all whose number, counted from 1, is a multiple of
/// decoder_sparse_step and that mlp_only_layers does not name.
std::function<bool(std::int64_t)> qwen_sparse_layers(const Fields& fields, const ModelConfig& config);

/// Routers and the gates of shared experts under the names that most families publish: "mlp.gate".
std::vector<PublishedModule> published_routers(const ModelConfig& config,
                                               std::string_view router = "mlp.gate");
/// The stacks that Transformers 5 makes of a layer's experts, and newer files have: mlp.experts.gate_up_proj
/// [E, 2 ffn, H] (gates before ups) and down_proj [E, H, ffn].
std::vector<PublishedModule> stacked_experts(const ModelConfig& config);

/// llama.cpp's stacks: "blk.3.ffn_gate_exps" and so on.
std::vector<PublishedModule> gguf_experts(const ModelConfig& config);
/// The keys that all mixtures of llama.cpp's have in common. `count`: the field of config.json that
/// read_experts() looks at.
void write_gguf_experts(const ModelConfig& config, nlohmann::ordered_json& keys);
void read_gguf_experts(const nlohmann::json& keys, const char* count, nlohmann::json& config);
/// Of the keys, those that change the arithmetic.
inline constexpr std::array<std::string_view, 2> kGgufExpertKeys{"expert_count", "expert_used_count"};
/// The experts of a model whose layers are all mixtures; null if one is not.
const Experts* experts_everywhere(const ModelConfig& config);

/// Calls function("model.layers.3.", experts) for every layer that is a mixture.
void for_mixtures(const ModelConfig& config,
                  const std::function<void(const std::string& block, const Experts& experts)>& function);
/// The name that Knapsaq has for a matrix of an expert: "model.layers.3.mlp.experts.7.down_proj".
std::string expert_module(std::string_view block, std::int64_t expert, std::string_view projection);

}  // namespace knapsaq
