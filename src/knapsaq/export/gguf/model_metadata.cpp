#include "knapsaq/export/gguf/model_metadata.h"

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
    notes.push_back(
        fmt::format("attention: llama.cpp computes full attention where this model has a sliding window of "
                    "{} tokens; both agree "
                    "on shorter texts",
                    config.sliding_window));
  }
}

std::vector<float> rope_divisors(const ModelConfig& config) {
  if (config.rope.kind != RopeScaling::Kind::llama3) return {};
  ModelConfig plain = config;
  plain.rope = {};
  std::vector<float> divisors = rotary_frequencies(plain);
  const std::vector<float> scaled = rotary_frequencies(config);
  for (std::size_t i = 0; i < divisors.size(); ++i) divisors[i] /= scaled[i];
  return divisors;
}

std::vector<std::int64_t> rotated_rows(std::int64_t heads, std::int64_t head_dim) {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(heads * head_dim));
  for (std::int64_t head = 0; head < heads; ++head)
    for (std::int64_t i = 0; i < head_dim / 2; ++i)
      for (std::int64_t half = 0; half < 2; ++half) rows.push_back(head * head_dim + half * head_dim / 2 + i);
  return rows;
}

}  // namespace knapsaq
