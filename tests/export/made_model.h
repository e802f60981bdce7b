#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {

/// The numbers of tools/make_export_references.py.
inline std::uint8_t made_code(std::int64_t n, std::int64_t k, int bits) {
  return static_cast<std::uint8_t>((7 * n + 13 * k + n * k) & ((1 << bits) - 1));
}
inline int made_zero(std::int64_t n, std::int64_t g, int bits) {
  return static_cast<int>((3 * n + 5 * g) & ((1 << bits) - 1));
}
inline float made_scale(std::int64_t n, std::int64_t g) {
  return 1.0f / static_cast<float>(2 << ((n + g) % 4));
}

/// How a linear of the made model is stored.
struct MadeLinear {
  int bits = 4;
  int group = 32;  ///< 0: the whole row; -1: dense
  enum { symmetric, integer, real } zeros = symmetric;
  int meta_group = 0;  ///< not 0: with quantized metadata
};

inline PackedMatrix made_matrix(std::int64_t rows, std::int64_t cols, const MadeLinear& how) {
  PackedMatrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.bits = how.bits;
  matrix.group = how.group == 0 ? static_cast<int>(cols) : how.group;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(cols));
  const std::int64_t words = matrix.words_per_row();
  matrix.codes.resize(static_cast<std::size_t>(rows * words));
  for (std::int64_t n = 0; n < rows; ++n) {
    for (std::int64_t k = 0; k < cols; ++k) codes[k] = made_code(n, k, how.bits);
    pack_codes(codes, how.bits, std::span(matrix.codes).subspan(n * words, words));
    for (std::int64_t g = 0; g < matrix.groups(); ++g) {
      const float zero = how.zeros == MadeLinear::symmetric ? static_cast<float>(1 << (how.bits - 1))
                         : how.zeros == MadeLinear::integer ? static_cast<float>(made_zero(n, g, how.bits))
                                                            : 0.5f + static_cast<float>(g % 2);
      matrix.scales.push_back(float_to_half(made_scale(n, g)));
      matrix.biases.push_back(float_to_half(-made_scale(n, g) * zero));
    }
  }
  if (how.meta_group != 0) {
    matrix.meta_bits = 8;
    matrix.meta_group = how.meta_group;
    matrix.scale_codes.assign(matrix.scales.size(), 7);
    matrix.zero_codes.assign(matrix.scales.size(), 100);
    const auto pairs = static_cast<std::size_t>(matrix.meta_groups());
    matrix.scale_steps.assign(pairs, float_to_half(0.01f));
    matrix.scale_mins.assign(pairs, float_to_half(0.1f));
    matrix.scales.clear();
    matrix.biases.clear();
  }
  return matrix;
}

/// A Llama of four blocks, 64 wide: down_proj of the size of the references is not, but its codes are.
inline nlohmann::json made_config(std::int64_t hidden = 64, std::int64_t ffn = 96) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", hidden},
          {"intermediate_size", ffn},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 2},
          {"vocab_size", 40},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true},
          {"rope_theta", 5000.0}};
}

/// Writes a model as `knapsaq quantize` does, its linears stored as `how` says, in turn; embedding and head
/// as `ends` says.
inline void write_made_model(const std::filesystem::path& folder, nlohmann::json config,
                             const std::vector<MadeLinear>& how, const MadeLinear& ends = {.group = -1}) {
  std::filesystem::create_directories(folder);
  const ModelConfig parsed = parse_model_config(config);
  std::vector<TensorSpec> specs;
  std::vector<std::byte> bytes;
  const auto add = [&](std::span<const std::byte> part) {
    bytes.insert(bytes.end(), part.begin(), part.end());
  };
  const auto add_dense = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    specs.push_back({name, DType::F16, shape});
    std::vector<std::uint16_t> values(specs.back().bytes() / 2);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = float_to_half(0.01f * static_cast<float>(i % 37) - 0.2f);
    add(std::as_bytes(std::span(values)));
  };
  nlohmann::json quantization{{"bits", 4}, {"group_size", 32}, {"mode", "affine"}};
  for (const ExpectedTensor& tensor : dense_tensors(parsed)) add_dense(tensor.name, tensor.shape);
  const std::vector<Matrix> all = matrices(parsed);
  std::size_t linears = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const MadeLinear& own = all[i].in_block() ? how[linears++ % how.size()] : ends;
    if (own.group < 0) {
      add_dense(all[i].name + ".weight", {all[i].out, all[i].in});
      continue;
    }
    const PackedMatrix matrix = made_matrix(all[i].out, all[i].in, own);
    for (const TensorSpec& spec : affine_tensors(all[i].name, affine_shape(matrix))) specs.push_back(spec);
    for (const auto part : affine_bytes(matrix)) add(part);
    quantization[all[i].name] = affine_config(affine_shape(matrix));
  }
  if (how.size() != 1 || how[0].group >= 0 || ends.group >= 0) config["quantization"] = quantization;
  CheckpointWriter writer(folder, specs);
  writer.write(bytes);
  writer.commit();
  write_file(folder / "config.json", config.dump());
  write_file(folder / "tokenizer.json", "{}");
}

}  // namespace knapsaq
