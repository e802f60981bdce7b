#pragma once

// What the kernel sources of this folder share (simd.h says what they are): powers of two, and rows of any
// length.

#include <cstdint>

#include "knapsaq/base/simd/simd.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;
using Vec = Floats;

constexpr float kLog2E = 1.44269504088896340736f;
/// Below every score, but finite, so that differences stay numbers.
constexpr float kMasked = -1e30f;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// 2^x; relative error 8e-8 (and the rounding of fp32) from a minimax polynomial on [0, 1).
inline Vec exp2_precise(Vec x) {
  Vec f;
  const Vec n = split_exponent(x, f);
  Vec p = splat(0.00187757668f);
  p = fma(p, f, splat(0.00898934009f));
  p = fma(p, f, splat(0.0558263181f));
  p = fma(p, f, splat(0.240153617f));
  p = fma(p, f, splat(0.693153073f));
  p = fma(p, f, splat(0.999999925f));
  return scale_exponent(p, n);
}

/// 2^x with relative error 3e-9 and the rounding of fp32, exactly 1 at 0: for differences of probabilities.
inline Vec exp2_exact(Vec x) {
  Vec f;
  const Vec n = split_exponent(x, f);
  Vec p = splat(0.000217946697f);
  p = fma(p, f, splat(0.00124149199f));
  p = fma(p, f, splat(0.00968116987f));
  p = fma(p, f, splat(0.0554824844f));
  p = fma(p, f, splat(0.240229905f));
  p = fma(p, f, splat(0.693147004f));
  p = fma(p, f, splat(1.0f));
  return scale_exponent(p, n);
}

/// 2^x with relative error 7.5e-5, a fiftieth of bfloat16's rounding (2^-9 relative), for probabilities that
/// are rounded to it anyway.
inline Vec exp2_rough(Vec x) {
  Vec f;
  const Vec n = split_exponent(x, f);
  Vec p = splat(0.0780245226f);
  p = fma(p, f, splat(0.226067155f));
  p = fma(p, f, splat(0.69583354f));
  p = fma(p, f, splat(0.999925219f));
  return scale_exponent(p, n);
}

inline Vec exp_precise(Vec x) { return exp2_precise(x * splat(kLog2E)); }

/// tanh(x), relative error 2.5e-7: an odd polynomial (minimax, 1e-9 before the rounding of fp32) for small
/// |x|, (1 - e) / (1 + e) with e = exp(-2 |x|) for the rest.
inline Vec tanh_precise(Vec x) {
  const Vec size = vmax(x, splat(0.0f) - x);
  const Vec square = x * x;
  Vec p = splat(-0.00627422100f);
  p = fma(p, square, splat(0.0210716650f));
  p = fma(p, square, splat(-0.0538523048f));
  p = fma(p, square, splat(0.133325860f));
  p = fma(p, square, splat(-0.333333164f));
  const Vec near_zero = fma(x * square, p, x);
  // Of 20 on the result is 1; the exponential must not leave the range of fp32.
  const Vec e = exp_precise(splat(-2.0f) * vmin(splat(20.0f), size));
  const Vec far = (splat(1.0f) - e) / (splat(1.0f) + e);
  return if_less(size, splat(0.55f), near_zero, if_less(x, splat(0.0f), splat(0.0f) - far, far));
}

/// Calls f(index, lanes) for the vectors of a row of n.
template <class Function>
inline void for_vectors(std::int64_t n, Function f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

template <class T>
inline Vec load_lanes(const T* p, int lanes) {
  return lanes == kLanes ? load(p) : load_part(p, lanes);
}
template <class T>
inline void store_lanes(T* p, Vec v, int lanes) {
  if (lanes == kLanes) {
    store(p, v);
  } else {
    store_part(p, v, lanes);
  }
}

/// x = cap * tanh(x / cap), for n numbers.
inline void soft_cap(float* x, std::int64_t n, float cap) {
  const Vec by = splat(cap);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(x + i, by * tanh_precise(load_lanes(x + i, lanes) / by), lanes);
  });
}

}  // namespace
}  // namespace knapsaq::cpu::KNAPSAQ_SET
