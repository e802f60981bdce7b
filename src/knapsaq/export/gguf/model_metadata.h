#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/model/config.h"

namespace knapsaq {

/// llama.cpp's name for the architecture: "llama" (also Mistral), "qwen2", "qwen3". Throws InputError for an
/// architecture that it does not have, and for variants that its code does not compute.
std::string gguf_architecture(const ModelConfig& config);

/// The sizes and numbers of a model that llama.cpp needs (keys of its architecture). Appends a line to
/// `notes` for what llama.cpp does differently.
void add_model(const ModelConfig& config, GgufMetadata& metadata, std::vector<std::string>& notes);

/// RoPE frequency factors, [head_dim / 2]: the tensor rope_freqs.weight, by which llama.cpp divides the
/// rotary frequencies for Llama 3's scaling. Empty for models without it.
std::vector<float> rope_frequency_factors(const ModelConfig& config);

}  // namespace knapsaq
