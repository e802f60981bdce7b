#pragma once

#include <cstdint>

#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq::cpu {

/// What llama.cpp's kernels for processors make of a product's inputs before they multiply (ggml-cpu:
/// vec_dot_type of a type, and quantize_row_q8_0, _q8_1, _q8_K). Sums over these inputs are then exact but
/// for their last bits.
enum class InputRounding : std::uint8_t {
  none,
  half,      ///< fp16: for weights in fp16
  bfloat,    ///< bfloat16: for weights in bfloat16
  int8_32,   ///< every 32 a scale in fp16, of their largest size / 127: for Q4_0 to Q8_0, IQ4_NL
  int8_256,  ///< every 256 a scale, of their largest size / 127: for the K types and the other IQ types
};

/// For matrices in other forms than GGML's: none.
InputRounding input_rounding(const StoredMatrix& weight);
InputRounding input_rounding(DType weight);

/// n inputs, n a multiple of the blocks; `out` may be `in`.
void round_inputs(InputRounding rounding, const float* in, std::int64_t n, float* out);

}  // namespace knapsaq::cpu
