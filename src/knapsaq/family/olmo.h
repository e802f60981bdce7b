#pragma once

#include <array>
#include <string>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/gguf.h"

namespace knapsaq {

// What OLMo 2 and 3 have in common.

/// Norms of a branch's result, and of all heads of q (of k) at once.
void read_olmo_norms(const Fields& fields, ModelConfig& config);

inline constexpr std::array<GgufName, 2> kOlmoGgufNames{
    {{"post_attention_layernorm", "post_attention_norm"}, {"post_feedforward_layernorm", "post_ffw_norm"}}};

std::string olmo_gguf_obstacle(const ModelConfig& config);

}  // namespace knapsaq
