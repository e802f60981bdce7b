#include "knapsaq/export/gguf/model_metadata.h"

#include <algorithm>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/model/rotation.h"

namespace knapsaq {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw InputError(fmt::format("GGUF: llama.cpp has no code for {}; export to another format", what));
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) {
  std::string name;
  if (config.architecture == "LlamaForCausalLM" || config.architecture == "MistralForCausalLM") {
    name = "llama";
  } else if (config.architecture == "Qwen2ForCausalLM") {
    name = "qwen2";
  } else if (config.architecture == "Qwen3ForCausalLM") {
    name = "qwen3";
  } else {
    throw InputError(fmt::format(
        "GGUF has no architecture for {}: llama.cpp cannot run such models; export to gptq, auto-round or "
        "compressed-tensors",
        config.architecture == "OPTForCausalLM" ? "OPT" : config.architecture));
  }
  if (config.activation != Activation::silu) refuse("activations other than silu");
  if (name != "llama" && config.rope.kind == RopeScaling::Kind::llama3)
    refuse(name + " with Llama 3's rescaling of positions");
  if (name == "qwen3" && config.qkv_bias) refuse("qwen3 with biases in attention");
  return name;
}

void add_model(const ModelConfig& config, GgufMetadata& metadata, std::vector<std::string>& notes) {
  const std::string arch = gguf_architecture(config);
  const auto count = [&](const char* key, std::int64_t value) {
    metadata.add(fmt::format("{}.{}", arch, key), static_cast<std::uint32_t>(value));
  };
  const auto number = [&](const char* key, float value) {
    metadata.add(fmt::format("{}.{}", arch, key), value);
  };
  count("vocab_size", config.vocab);
  count("context_length", config.max_positions);
  count("embedding_length", config.hidden);
  count("block_count", config.layers);
  count("feed_forward_length", config.ffn);
  count("attention.head_count", config.heads);
  count("attention.head_count_kv", config.kv_heads);
  count("attention.key_length", config.head_dim);
  count("attention.value_length", config.head_dim);
  number("attention.layer_norm_rms_epsilon", config.norm_eps);
  count("rope.dimension_count", config.head_dim);
  number("rope.freq_base", config.rope_theta);
  if (config.rope.kind == RopeScaling::Kind::linear) {
    metadata.add(arch + ".rope.scaling.type", "linear");
    number("rope.scaling.factor", config.rope.factor);
  }
  if (config.sliding_window > 0 && config.sliding_window < config.max_positions) {
    count("attention.sliding_window", config.sliding_window);
    if (config.sliding_from_layer > 0) {
      std::vector<bool> slides(static_cast<std::size_t>(config.layers), true);
      std::fill_n(slides.begin(), std::min(config.sliding_from_layer, config.layers), false);
      metadata.add(arch + ".attention.sliding_window_pattern", GgufArray(std::move(slides)));
    }
    notes.push_back(
        fmt::format("attention: llama.cpp computes full attention where this model has a sliding window of "
                    "{} tokens; both agree "
                    "on shorter texts",
                    config.sliding_window));
  }
}

std::vector<float> rope_frequency_factors(const ModelConfig& config) {
  if (config.rope.kind != RopeScaling::Kind::llama3) return {};
  ModelConfig plain = config;
  plain.rope = {};
  std::vector<float> factors = rotary_frequencies(plain);
  const std::vector<float> scaled = rotary_frequencies(config);
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return factors;
}

}  // namespace knapsaq
