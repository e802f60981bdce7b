#include "knapsaq/compute/cpu/rounded_inputs.h"

#include <algorithm>
#include <cmath>

#include "knapsaq/base/float16.h"
#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq::cpu {
namespace {

/// The one of the largest size, with its sign.
float largest_of(const float* in, std::int64_t n) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (std::abs(in[i]) > std::abs(largest)) largest = in[i];
  return largest;
}

void round_block_32(const float* in, float* out) {
  const float largest = std::abs(largest_of(in, 32));
  const float scale = half_to_float(float_to_half(largest / 127.0f));
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  for (int i = 0; i < 32; ++i) out[i] = scale * std::nearbyint(in[i] * inverse);
}

void round_block_256(const float* in, float* out) {
  const float largest = largest_of(in, 256);
  if (largest == 0) {
    std::fill_n(out, 256, 0.0f);
    return;
  }
  const float inverse = -127.0f / largest;
  const float scale = 1.0f / inverse;
  for (int i = 0; i < 256; ++i) out[i] = scale * std::min(127.0f, std::nearbyint(inverse * in[i]));
}

}  // namespace

InputRounding input_rounding(const StoredMatrix& weight) {
  const auto* blocks = std::get_if<GgmlMatrix>(&weight);
  if (blocks == nullptr) return InputRounding::none;
  return info(blocks->type).block == 256 ? InputRounding::int8_256 : InputRounding::int8_32;
}

InputRounding input_rounding(DType weight) {
  if (weight == DType::F16) return InputRounding::half;
  return weight == DType::BF16 ? InputRounding::bfloat : InputRounding::none;
}

void round_inputs(InputRounding rounding, const float* in, std::int64_t n, float* out) {
  switch (rounding) {
    case InputRounding::none:
      std::copy_n(in, n, out);
      return;
    case InputRounding::half:
      for (std::int64_t i = 0; i < n; ++i) out[i] = half_to_float(float_to_half(in[i]));
      return;
    case InputRounding::bfloat:
      for (std::int64_t i = 0; i < n; ++i) out[i] = bfloat16_to_float(float_to_bfloat16(in[i]));
      return;
    case InputRounding::int8_32:
      for (std::int64_t i = 0; i < n; i += 32) round_block_32(in + i, out + i);
      return;
    case InputRounding::int8_256:
      for (std::int64_t i = 0; i < n; i += 256) round_block_256(in + i, out + i);
      return;
  }
}

}  // namespace knapsaq::cpu
