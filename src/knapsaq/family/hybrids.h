#pragma once

#include <vector>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/gguf.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

// What the families share whose layers have the gated delta rule: Qwen3.5 and Qwen3-Next.

/// Layers, by layer_types or full_attention_interval; attention with a gate and norms of q and k, and the
/// sizes of the delta rule; norms of 1 + w. Rotary positions on a quarter of a head. Everything but the MLP.
void read_hybrid(const Fields& fields, ModelConfig& config);

/// q_proj of layers with attention, which has the rows of q and of the gate, head by head.
std::vector<PublishedModule> published_gates(const ModelConfig& config);

// How llama.cpp stores them.
inline constexpr GgufName kHybridGgufNames[] = {{"post_attention_layernorm", "post_attention_norm"},
                                                {"linear_attn.in_proj_qkv", "attn_qkv"},
                                                {"linear_attn.in_proj_z", "attn_gate"},
                                                {"linear_attn.out_proj", "ssm_out"},
                                                {"linear_attn.conv1d", "ssm_conv1d"},
                                                {"linear_attn.in_proj_a", "ssm_alpha"},
                                                {"linear_attn.in_proj_b", "ssm_beta"},
                                                {"linear_attn.norm", "ssm_norm"},
                                                {"linear_attn.A_log", "ssm_a"},
                                                {"linear_attn.dt_bias", "ssm_dt.bias"}};
void write_hybrid_gguf(const ModelConfig& config, nlohmann::ordered_json& keys);
void read_hybrid_gguf(const nlohmann::json& keys, nlohmann::json& config);
/// q_proj with its gates, as published.
std::vector<PublishedModule> gguf_gates(const ModelConfig& config);

/// Beginnings of the names of what predicts further tokens and of what sees pictures.
inline constexpr std::string_view kHybridCarried[] = {"mtp.", "model.visual.", "visual."};

}  // namespace knapsaq
