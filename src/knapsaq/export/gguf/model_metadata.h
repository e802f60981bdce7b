#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// llama.cpp's name for the architecture: "llama" (also Mistral), "qwen3". Throws InputError for an
/// architecture that it does not have, and for variants that its code does not compute.
std::string gguf_architecture(const ModelConfig& config);

/// The sizes and numbers of a model that llama.cpp needs (keys of its architecture). Appends a line to
/// `notes` for what llama.cpp does differently.
void add_model(const ModelConfig& config, GgufMetadata& metadata, std::vector<std::string>& notes);

/// A tensor of factors by which llama.cpp divides the rotary frequencies, one for each pair.
struct RopeFactors {
  std::string tensor;
  std::vector<float> values;
};
/// Those of Llama 3's scaling (rope_freqs.weight) and of longrope (one for short texts and one for long
/// ones); empty for models without them.
std::vector<RopeFactors> rope_factors(const ModelConfig& config);

}  // namespace knapsaq
