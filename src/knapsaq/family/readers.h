#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/rope.h"

namespace knapsaq {

// Pieces of configurations that several families share.

/// By Transformers' name ("silu", "gelu_pytorch_tanh"); throws InputError for others than Knapsaq computes.
Activation parse_activation(const std::string& name);

/// intermediate_size, rms_norm_eps and hidden_act.
void read_mlp_and_norms(const Fields& fields, ModelConfig& config);

/// What Llama and its many relatives have in common: intermediate_size, rms_norm_eps, hidden_act, rotary
/// positions. Biases and windows are the family's own.
void read_llama_like(const Fields& fields, ModelConfig& config, const RopeDefaults& rope = {});

/// The same without intermediate_size, for mixtures, which have none.
void read_rms_silu(const Fields& fields, ModelConfig& config, const RopeDefaults& rope = {});

/// Fills config.blocks with the layers as they are without it, for families that change some of them.
void spread_blocks(ModelConfig& config);

/// layer_types, one of full_attention and sliding_attention for every layer: gives the layers their windows,
/// in config.blocks. Returns the types.
std::vector<std::string> read_windows(const Fields& fields, std::int64_t window, ModelConfig& config);

/// The same for layers of whose window config.json speaks in another way.
void give_windows(const std::vector<bool>& slides, std::int64_t window, ModelConfig& config);

/// Qwen's sliding windows: use_sliding_window, then layer_types or max_window_layers. `usual`: the window
/// where none is given.
void read_qwen_window(const Fields& fields, std::int64_t usual, ModelConfig& config);

}  // namespace knapsaq
