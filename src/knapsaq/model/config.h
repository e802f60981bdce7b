#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/compute/functions.h"

namespace knapsaq {

/// How a model represents positions.
enum class Positions : std::uint8_t { rotary, learned };

/// Scaling of the rotary frequencies: Llama 3's rule (rope_type "llama3"), division by one factor ("linear"),
/// or division by RoPE frequency factors, one for each frequency, as in GGUF files ("divisors").
struct RopeScaling {
  enum class Kind : std::uint8_t { none, linear, llama3, frequency_factors } kind = Kind::none;
  float factor = 1;
  float low_freq_factor = 1;
  float high_freq_factor = 4;
  std::int64_t original_max_positions = 8192;
  std::vector<float> frequency_factors;  ///< [D / 2]
};

/// Everything that the decoder's code depends on: one configurable decoder instead of a class per model.
/// Shapes in comments use H = hidden, V = vocab, D = head_dim.
struct ModelConfig {
  std::string architecture;    ///< "LlamaForCausalLM", "OPTForCausalLM", ...
  std::int64_t hidden = 0;     ///< H
  std::int64_t embedding = 0;  ///< width of the embedding; != H only for OPT with project_in/out
  std::int64_t ffn = 0;        ///< width between the two (three) MLP linears
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  ///< D
  std::int64_t vocab = 0;     ///< V
  std::int64_t max_positions = 0;
  Positions positions = Positions::rotary;
  Norm norm = Norm::rms;
  Activation activation = Activation::silu;
  float norm_eps = 1e-5f;
  float rope_theta = 10000;
  RopeScaling rope;
  bool gated_mlp = true;    ///< act(gate(x)) * up(x), else act(fc1(x))
  bool norm_before = true;  ///< pre-norm; false only for OPT-350m's post-norm
  bool final_norm = true;
  bool norm_affine = true;  ///< OPT's layer_norm_elementwise_affine
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;             ///< Qwen3: RMSNorm over D on q and k before rotary
  bool tied = false;                ///< output head = embedding
  std::int64_t sliding_window = 0;  ///< 0: none; else a token sees itself and window-1 before it
  /// First layer that uses the sliding window (Qwen2's max_window_layers); 0 for all.
  std::int64_t sliding_from_layer = 0;
};

/// Reads config.json in the current notation and in that of Transformers 5. Throws InputError for an
/// unsupported architecture (naming the supported ones), for a missing field, and for values outside sensible
/// bounds.
ModelConfig parse_model_config(const nlohmann::json& config);

}  // namespace knapsaq
