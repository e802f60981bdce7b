#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/gguf.h"

namespace knapsaq {

// What Gemma 2 and 3 have in common.

/// Everything but rotary positions: norms around the branches, whose weights are off by one, a scaled
/// embedding, a scale of scores of its own, soft caps, windows. `period`: every so many layers one has no
/// window, where layer_types does not say it. The caps are Transformers' defaults; 0: none.
struct GemmaDefaults {
  std::int64_t period = 2;
  double attention_softcap = 0;
  double logit_softcap = 0;
};
void read_gemma(const Fields& fields, const GemmaDefaults& defaults, ModelConfig& config);

/// llama.cpp's names of the norms. Its converters have added the one to their weights.
inline constexpr std::array<GgufName, 3> kGemmaNames{{{"post_attention_layernorm", "post_attention_norm"},
                                                      {"pre_feedforward_layernorm", "ffn_norm"},
                                                      {"post_feedforward_layernorm", "post_ffw_norm"}}};
/// What llama.cpp's code for both does not compute, if anything; it takes the scale of scores from the sizes
/// of the model.
std::string gemma_obstacle(const ModelConfig& config);
/// Windows and soft caps, in llama.cpp's keys and back.
void write_gemma_keys(const ModelConfig& config, std::int64_t period, nlohmann::ordered_json& keys);
void read_gemma_keys(const nlohmann::json& keys, std::int64_t period, nlohmann::json& config);

}  // namespace knapsaq
