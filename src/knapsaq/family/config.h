#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/compute/functions.h"

namespace knapsaq {

/// How a model represents positions.
enum class Positions : std::uint8_t { rotary, learned };

/// Scaling of the rotary frequencies, by the names that config.json has for the rules ("rope_type"):
///   linear             division by one factor
///   llama3             Llama 3: low frequencies are divided by a factor, high ones stay
///   frequency_factors  "divisors": RoPE frequency factors as in GGUF files, one for each frequency
///   yarn               Peng et al. 2023: as llama3, between limits in turns within the original length
///   dynamic            NTK: a larger theta for texts longer than the model was trained for
///   longrope           Ding et al. 2024: one list of factors for short texts and one for long ones
///   proportional       Gemma 4: as for the whole head, but only a share of its pairs turns
/// rotation.h has the formulas.
struct RopeScaling {
  enum class Kind : std::uint8_t {
    none,
    linear,
    llama3,
    frequency_factors,
    yarn,
    dynamic,
    longrope,
    proportional
  } kind = Kind::none;
  float factor = 1;  ///< longrope: max_positions / original_max_positions where the file has none
  float low_freq_factor = 1;
  float high_freq_factor = 4;
  std::int64_t original_max_positions = 8192;  ///< of llama3, yarn, longrope; dynamic: the max_positions
  std::vector<float> frequency_factors;        ///< [rotated numbers / 2]
  /// Cosines and sines are multiplied by it (yarn, longrope); 0: the rule's own, from `factor`.
  float attention_factor = 0;
  float beta_fast = 32;  ///< yarn: turns within the original length above which a frequency stays,
  float beta_slow = 1;   ///< and below which it is divided by `factor`
  float mscale = 0;      ///< yarn as DeepSeek has it: both or 0
  float mscale_all_dim = 0;
  bool truncate = true;             ///< yarn: limits are whole numbers of pairs
  std::vector<float> short_factor;  ///< longrope, [rotated numbers / 2]: texts of at most the original length
  std::vector<float> long_factor;   ///< longer ones
  float proportion = 1;             ///< proportional: share of the pairs of a head that turn
};

/// Rotary positions of some layers.
struct Rotary {
  float theta = 10000;
  /// The first so many numbers of a head are rotated, pairs (i, i + rotated / 2); the rest stays.
  std::int64_t rotated = 0;
  RopeScaling scaling;
};

/// Queries that grow with their position p (Llama 4, Ministral 3): q is multiplied by
/// 1 + beta log(1 + floor(p / length)).
struct QueryScaling {
  float beta = 0;  ///< 0: they do not
  std::int64_t length = 0;
};

/// Where the norms of a block's two branches, attention and MLP, are.
enum class NormPlacement : std::uint8_t {
  before,     ///< x + f(norm(x)): most models
  after_sum,  ///< norm(x + f(x)): OPT-350m
  behind,     ///< x + norm(f(x)): OLMo 2
  around      ///< x + norm(f(norm(x))): Gemma 2
};

/// What mixes the tokens in a layer.
enum class Mixer : std::uint8_t {
  attention,
  delta,       ///< a short convolution and the gated delta rule (Qwen3-Next, Qwen3.5)
  convolution  ///< a gated short convolution (LFM2)
};

/// A mixer without keys and values (compute/backend.h's DeltaShape and ShortConvolution).
struct Recurrence {
  std::int64_t taps = 0;      ///< of the convolution
  std::int64_t channels = 0;  ///< of the convolution: q, k and v of the delta rule, H of LFM2
  bool bias = false;          ///< convolution and projections have biases
  // Of the delta rule.
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;

  std::int64_t value_width() const { return value_heads * value_dim; }
};

/// How the tokens of a layer find their experts (mixtures; see compute/backend.h's RouterRule).
struct Experts {
  std::int64_t count = 0;   ///< E; 0: the MLP is dense
  std::int64_t chosen = 0;  ///< of a token
  bool renormalise = true;  ///< the weights of the chosen sum to one
  bool bias = false;        ///< router and experts have biases (gpt-oss)
  std::int64_t ffn = 0;     ///< width of one expert
  /// Width of an expert that every token uses beside the chosen ones; 0: none.
  std::int64_t shared_ffn = 0;
  bool shared_gate = false;  ///< its result is multiplied by the sigmoid of a product with x (Qwen2-MoE)
};

/// The configuration of one block. All code that computes or counts something of a block asks
/// layer_config().
struct LayerConfig {
  Mixer mixer = Mixer::attention;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;  ///< of a dense MLP
  bool gated_mlp = true;
  Activation activation = Activation::silu;
  /// A token sees itself and the tokens before it, this many in total; 0: all.
  std::int64_t sliding_window = 0;
  int rope = 0;  ///< index of ModelConfig::ropes; negative: no positions
  Experts experts = {};
  Recurrence recurrence = {};  ///< of mixers other than attention

  bool is_attention() const { return mixer == Mixer::attention; }
  /// Has this mixer in place of attention.
  void become(Mixer kind, const Recurrence& what) {
    mixer = kind;
    recurrence = what;
    heads = kv_heads = head_dim = 0;
    sliding_window = 0;
    rope = -1;
  }
  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
  /// What the mixer's last product reads.
  std::int64_t mixed_width() const {
    if (is_attention()) return q_width();
    return mixer == Mixer::delta ? recurrence.value_width() : recurrence.channels;
  }
  /// What the mixer's first product gives, where it is no attention.
  std::int64_t mixer_width() const { return (mixer == Mixer::convolution ? 3 : 1) * recurrence.channels; }
  bool is_mixture() const { return experts.count > 0; }
};

/// Everything that the decoder's code depends on: one configurable decoder instead of a class per model.
/// Shapes in comments use H = hidden, V = vocab, D = head_dim.
struct ModelConfig {
  std::string architecture;    ///< "LlamaForCausalLM", "OPTForCausalLM", ...
  std::string wrapper;         ///< the multimodal architecture that it is the language model of; empty
  std::string family;          ///< the model_type of the language model: "llama", "gemma3_text"
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
  std::vector<Rotary> ropes = {Rotary()};  ///< a layer has one of them; empty with learned positions
  Norm norm = Norm::rms;
  Activation activation = Activation::silu;
  float norm_eps = 1e-5f;
  float norm_offset = 0;  ///< what a norm multiplies by is its weight plus this (Gemma: 1)
  NormPlacement norms = NormPlacement::before;
  bool parallel = false;  ///< attention and MLP both read the block's input (GPT-NeoX)
  bool gated_mlp = true;  ///< act(gate(x)) * up(x), else act(fc1(x))
  bool final_norm = true;
  bool norm_affine = true;  ///< OPT's layer_norm_elementwise_affine
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;         ///< a norm on q and k before rotary: over D for every head (Qwen3)
  bool qk_norm_whole = false;   ///< over all heads at once (OLMo 2)
  bool attention_gate = false;  ///< attention's result is multiplied by the sigmoid of a product with x
  bool sinks = false;           ///< attention may look at nothing, with a learned logit (gpt-oss)
  bool tied = false;            ///< output head = embedding
  float embedding_scale = 1;    ///< of the embedding's rows (Gemma)
  float residual_scale = 1;     ///< of a branch's result before it is added (Granite)
  float logit_scale = 1;        ///< of the logits (Granite)
  float logit_softcap = 0;      ///< c: logits become c tanh(logit / c); 0: they stay (Gemma 2)
  float attention_scale = 0;    ///< of scores; 0: D^-0.5
  float attention_softcap = 0;  ///< of scores, like logit_softcap
  QueryScaling query_scaling = {};
  std::int64_t sliding_window = 0;  ///< 0: none; else a token sees itself and window-1 before it
  /// First layer that uses the sliding window (Qwen2's max_window_layers); 0 for all.
  std::int64_t sliding_from_layer = 0;
  /// Every layer's own configuration, where layers differ in more than where the window begins; empty: all
  /// are as above.
  std::vector<LayerConfig> blocks;

  /// The rotary tables of all layers where they are the same.
  const Rotary& rope() const { return ropes.front(); }
};

/// Of block 0 <= block < config.layers.
LayerConfig layer_config(const ModelConfig& config, std::int64_t block);

}  // namespace knapsaq
