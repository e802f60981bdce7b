// The column loop of GPTQ.

#include <cstdint>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/quant/gptq_kernels.h"
#include "knapsaq/quant/nearest_level.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;

/// Columns at a time: their sums take half of the registers.
constexpr int kTogether = kRegisters / 2;

/// Columns [first, first + kCount) of kLanes rows. What the errors of all columns before them in the block
/// add is gathered first, in registers; `errors` holds the errors of the lanes, column by column.
template <int kCount, bool kLevels>
inline __attribute__((always_inline)) void columns(const GptqBlock& b, std::int64_t row, std::int64_t first,
                                                   Floats* errors) {
  Floats made_up[kCount];
  for (int i = 0; i < kCount; ++i) made_up[i] = load(b.made_up + (first + i) * b.row_stride + row);
  for (std::int64_t j = 0; j < first; ++j) {
    const float* feedback = b.feedback + j * b.stride + first;
    const Floats error = errors[j];
    for (int i = 0; i < kCount; ++i) made_up[i] = fma(error, splat(feedback[i]), made_up[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    const std::int64_t k = first + i;
    const Floats weight = load(b.weights[k] + row);
    const Floats bias = load(b.biases[k] + row);
    const Floats x = (weight + made_up[i] - bias) * load(b.inverses[k] + row);
    Floats code;
    if constexpr (kLevels)
      code = nearest_level(x, b.levels, b.thresholds, b.level_count);
    else
      code = nearest(vmin(vmax(x, splat(0)), splat(b.largest)));
    const Floats error = weight - fma(load(b.scales[k] + row), code, bias);
    errors[k] = error;
    store(b.errors + k * b.row_stride + row, error);
    store_codes(b.codes[k] + row, code, kLanes);
    const float* feedback = b.feedback + k * b.stride + first;
#pragma GCC unroll 16
    for (int l = i + 1; l < kCount; ++l) made_up[l] = fma(error, splat(feedback[l]), made_up[l]);
  }
}

template <bool kLevels>
void quantize_columns(const GptqBlock& b) {
  Floats errors[kGptqCols];
  for (std::int64_t row = 0; row < b.rows; row += kLanes) {
    std::int64_t k = 0;
    for (; k + kTogether <= b.cols; k += kTogether) columns<kTogether, kLevels>(b, row, k, errors);
    for (; k < b.cols; ++k) columns<1, kLevels>(b, row, k, errors);
  }
}

void quantize_block(const GptqBlock& b) {
  if (b.level_count > 0)
    quantize_columns<true>(b);
  else
    quantize_columns<false>(b);
}

}  // namespace

extern const GptqKernels kGptqKernels;
constexpr GptqKernels kGptqKernels = {quantize_block};

}  // namespace knapsaq::KNAPSAQ_SET
