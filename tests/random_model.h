#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {

/// A Llama with grouped queries whose rows every form can hold.
inline nlohmann::json random_llama(bool tied, std::int64_t hidden = 64) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", hidden},
          {"intermediate_size", 2 * hidden},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 72},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", tied}};
}

/// An OPT, whose embedding is the head; `embedding` narrower than `hidden`: with projections.
inline nlohmann::json random_opt(std::int64_t hidden = 64, std::int64_t embedding = 64) {
  return {{"architectures", {"OPTForCausalLM"}},
          {"model_type", "opt"},
          {"hidden_size", hidden},
          {"ffn_dim", 2 * hidden},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"vocab_size", 72},
          {"max_position_embeddings", 64},
          {"word_embed_proj_dim", embedding},
          {"tie_word_embeddings", true}};
}

/// Writes a model of random weights in F32, F16 or BF16 as Transformers does: config.json and one file.
inline void write_random_model(const std::filesystem::path& folder, const nlohmann::json& config,
                               DType type = DType::F16, std::uint64_t seed = 1) {
  std::filesystem::create_directories(folder);
  write_file(folder / "config.json", config.dump());
  const ModelConfig parsed = parse_model_config(config);
  std::vector<TensorSpec> specs;
  for (const ExpectedTensor& tensor : dense_tensors(parsed))
    specs.push_back({tensor.name, type, tensor.shape});
  for (const Matrix& matrix : matrices(parsed))
    specs.push_back({matrix.name + ".weight", type, {matrix.out, matrix.in}});
  SafetensorsWriter writer(folder / "model.safetensors", specs);
  Random random(seed);
  for (const TensorSpec& spec : specs) {
    std::vector<float> values(spec.bytes() / size_of(type));
    // Norms near one.
    const double mean = spec.shape.size() == 1 && spec.name.ends_with("norm.weight") ? 1 : 0;
    for (float& value : values) value = static_cast<float>(mean + 0.1 * random.normal());
    if (type == DType::F32) {
      writer.write(std::as_bytes(std::span(values)));
      continue;
    }
    std::vector<std::uint16_t> halves;
    for (const float value : values)
      halves.push_back(type == DType::F16 ? float_to_half(value) : float_to_bfloat16(value));
    writer.write(std::as_bytes(std::span(halves)));
  }
  writer.commit();
}

}  // namespace knapsaq
