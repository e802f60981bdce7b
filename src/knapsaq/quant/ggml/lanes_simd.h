#pragma once

// What the searches for the numbers of GGML blocks share: sub-blocks on sixteen lanes, and fp16 numbers.
// Included by kernel sources alone (simd.h).

#include <cstdint>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/quant/ggml/kernels.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;

constexpr int kParts = 16;

/// Sixteen sub-blocks, element j of sub-block l at [j * 16 + l].
template <int kSize>
struct Tile {
  alignas(64) float x[kSize * kParts];
  alignas(64) float w[kSize * kParts];
};

/// `present` sub-blocks that lie one after the other; the remaining lanes get zeros of weight 1.
template <int kSize>
void fill(Tile<kSize>& tile, const float* x, const float* w, int present) {
  for (int lane = 0; lane < kParts; ++lane) {
    for (int j = 0; j < kSize; ++j) {
      tile.x[j * kParts + lane] = lane < present ? x[lane * kSize + j] : 0.0f;
      tile.w[j * kParts + lane] = lane < present ? w[lane * kSize + j] : 1.0f;
    }
  }
}

inline Floats16 zero() { return splat16(0.0f); }
inline Floats16 clamped(Floats16 x, float low, float high) {
  return vmax(vmin(x, splat16(high)), splat16(low));
}
/// 1 / x, and 0 for 0.
inline Floats16 inverse(Floats16 x) { return if_less(zero(), magnitude(x), splat16(1.0f) / x, zero()); }
/// x / y, and 0 where y is not above `least`.
inline Floats16 quotient(Floats16 x, Floats16 y, Floats16 least) { return if_less(least, y, x / y, zero()); }

/// An fp16 number next to x; the largest one for what is beyond it.
inline Floats16 half(Floats16 x) {
  constexpr float kLargestHalf = 65504.0f;
  const Floats16 bounded = clamped(x, -kLargestHalf, kLargestHalf);
  // Below 2^-14 fp16 has steps of 2^-24, the last bit of numbers in [1/2, 1); adding 3/4 rounds to them.
  const Floats16 subnormal = (bounded + splat16(0.75f)) - splat16(0.75f);
  // Else 11 bits of the 24: Dekker's splitting with 2^13 + 1.
  const Floats16 large = bounded * splat16(8193.0f);
  const Floats16 normal = large - (large - bounded);
  return if_less(magnitude(bounded), splat16(0x1p-14f), subnormal,
                 clamped(normal, -kLargestHalf, kLargestHalf));
}

/// An fp16 number next to x for a factor: not 0 for weights too small for the best one, which the smallest
/// fp16 with smaller integers or codes still stores.
inline Floats16 factor(Floats16 x) {
  constexpr float kSmallestHalf = 0x1p-24f;
  const Floats16 smallest =
      if_less(zero(), x, splat16(kSmallestHalf), if_less(x, zero(), splat16(-kSmallestHalf), zero()));
  return if_less(magnitude(x), splat16(kSmallestHalf), smallest, half(x));
}

/// Over each run of kRun lanes, in every lane of the run.
template <int kRun, class Function>
inline Floats16 over_block(Floats16 x, Function&& fold) {
  alignas(64) float lanes[kParts];
  store(lanes, x);
  for (int first = 0; first < kParts; first += kRun) {
    float result = lanes[first];
    for (int lane = first + 1; lane < first + kRun; ++lane) result = fold(result, lanes[lane]);
    for (int lane = first; lane < first + kRun; ++lane) lanes[lane] = result;
  }
  return load16(lanes);
}
template <int kRun>
inline Floats16 total(Floats16 x) {
  return over_block<kRun>(x, [](float a, float b) { return a + b; });
}
template <int kRun>
inline Floats16 highest(Floats16 x) {
  return over_block<kRun>(x, [](float a, float b) { return a > b ? a : b; });
}
template <int kRun>
inline Floats16 lowest(Floats16 x) {
  return over_block<kRun>(x, [](float a, float b) { return a < b ? a : b; });
}

}  // namespace
}  // namespace knapsaq::KNAPSAQ_SET
