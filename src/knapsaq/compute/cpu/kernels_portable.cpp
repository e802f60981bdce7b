// Any processor: vectors of four floats, which the compiler maps to what there is (SSE2, NEON).
#include <cstddef>
#include <type_traits>

#include "knapsaq/base/float16.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {
namespace {

using Vec = float __attribute__((vector_size(16)));
using IntVec = std::int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kTileRows = 4;
constexpr int kTileVecs = 2;
// Four vectors of scores each: eight sums.
constexpr int kCacheQueries = 2;

inline Vec splat(float x) { return Vec{x, x, x, x}; }
inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec load_part(const float* p, int count) {
  Vec v = splat(0);
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof(v)); }
inline void store_part(float* p, Vec v, int count) {
  for (int i = 0; i < count; ++i) p[i] = v[i];
}

inline Vec load(const Half* p) {
  const IntVec half = {static_cast<std::int32_t>(p[0]), static_cast<std::int32_t>(p[1]),
                       static_cast<std::int32_t>(p[2]), static_cast<std::int32_t>(p[3])};
  // With exponent and mantissa in place, a float's exponent is 112 too small; the product also makes normal
  // numbers of subnormal ones. Infinity and NaN get the highest exponent.
  const IntVec magnitude = (half & 0x7FFF) << 13;
  const Vec scaled = reinterpret_cast<Vec>(magnitude) * splat(0x1p112f);
  const IntVec beyond = (half & 0x7C00) == 0x7C00;
  const IntVec bits = reinterpret_cast<IntVec>(scaled) | (beyond & 0x7F800000) | ((half & 0x8000) << 16);
  return reinterpret_cast<Vec>(bits);
}
inline Vec load(const std::int8_t* p) {
  return __builtin_convertvector((IntVec{p[0], p[1], p[2], p[3]}), Vec);
}
inline void store(Half* p, Vec v) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Half>(float_to_half(v[i]));
}

inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
inline Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
inline Vec vsqrt(Vec v) {
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
inline float sum_of(Vec v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline float largest_of(Vec v) {
  const float a = v[0] > v[1] ? v[0] : v[1];
  const float b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
inline Vec split_exponent(Vec x, Vec& fraction) {
  // 2^-126 is the smallest normal power; what is below becomes it.
  const Vec bounded = vmax(splat(-126.0f), x);
  const Vec cut = __builtin_convertvector(__builtin_convertvector(bounded, IntVec), Vec);
  const Vec whole = cut > bounded ? cut - splat(1.0f) : cut;
  fraction = bounded - whole;
  return whole;
}
inline Vec scale_exponent(Vec p, Vec n) {
  const IntVec bits = __builtin_convertvector(n, IntVec) << 23;
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(p) + bits);
}

template <class T>
struct Dot;
inline Vec exp2_precise(Vec x);

template <>
struct Dot<float> {
  static constexpr int kPair = 1;
  using Operand = Vec;
  static Vec load(const float* p) { return cpu::load(p); }
  static Vec broadcast(const float* p) { return splat(*p); }
  static Vec add(Vec sum, Vec x, Vec row) { return x * row + sum; }
  static void copy_group(const float* from, float* to) { *to = *from; }
  static void interleave(const float* rows, std::int64_t /*pitch*/, std::int64_t width, float* to) {
    __builtin_memcpy(to, rows, static_cast<std::size_t>(width) * sizeof(float));
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, float* out) {
    for (std::int64_t j = 0; j < extent; j += kLanes) {
      const Vec p = exp2_precise(cpu::load(scores + j) - shift);
      sum = sum + p;
      store(out + j, p);
    }
    return sum;
  }
};

#include "knapsaq/compute/cpu/kernels_body.h"

constexpr Kernels<float> kFloat = make_kernels<float>("portable");

}  // namespace

const Kernels<float>& portable_kernels() { return kFloat; }

}  // namespace knapsaq::cpu
