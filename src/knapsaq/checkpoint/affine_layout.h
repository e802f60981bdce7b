#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// How a quantized linear is stored, without its numbers.
///
/// In MLX's layout, its tensors, as those of the module `<m>` with N = rows, K = cols, b = bits and G =
/// ceil(K / group), are
///   <m>.weight  U32 [N, ceil(K * b / 32)]   codes
///   <m>.scales  F16 [N, G]                  W ~ scale * code + bias
///   <m>.biases  F16 [N, G]
/// and in Knapsaq's extension with quantized metadata (meta_bits == 8; PackedMatrix has the formula):
///   <m>.weight  U32 [N, ceil(K * b / 32)]
///   <m>.scales  U8  [N, G]                  scale codes
///   <m>.zeros   U8  [N, G]                  zero codes
///   <m>.scale_steps, <m>.scale_mins  F16 [ceil(N * G / meta_group)]
/// In config.json, `quantization` has an entry "<m>": {"group_size", "bits", "mode": "affine"}. If needed, it
/// also has "in_features" (K, if rows of codes end inside a word) and "meta_bits": 8 with "meta_group_size".
/// MLX passes the entry's keys on as arguments, so it must have no others.
struct AffineShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  int bits = 0;
  int group = 0;  ///< 0, or any number from cols upwards: one group per row
  int meta_bits = 16;
  int meta_group = 0;  ///< 0 when meta_bits == 16

  int effective_group() const;         ///< the value of PackedMatrix::group
  std::int64_t groups() const;         ///< G
  std::int64_t words_per_row() const;  ///< ceil(K * b / 32)
};

AffineShape affine_shape(const PackedMatrix& matrix);

/// The tensors of a linear in the order in which they are written, with exact sizes before anything is
/// quantized.
std::vector<TensorSpec> affine_tensors(std::string_view module, const AffineShape& shape);

/// Their bytes, in the same order; views into `matrix`.
std::vector<std::span<const std::byte>> affine_bytes(const PackedMatrix& matrix);

/// The module's entry in config.json's `quantization`.
nlohmann::json affine_config(const AffineShape& shape);

/// The inverse: the layout of an entry, with `weight` for the sizes that the entry omits. `defaults` are the
/// top-level group_size and bits, which apply if the entry has none. Throws InputError.
AffineShape parse_affine_config(const nlohmann::json& entry, const nlohmann::json& defaults,
                                const TensorView& weight);

/// Reads a quantized linear through `tensor`, which finds a tensor by its name. The result has passed
/// PackedMatrix::check(). Throws InputError naming the tensor.
PackedMatrix read_affine(std::string_view module, const AffineShape& shape,
                         const std::function<TensorView(const std::string& name)>& tensor);

}  // namespace knapsaq
