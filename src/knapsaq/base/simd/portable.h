#pragma once

// Any processor: vectors of four floats, which the compiler maps to what there is.

#include <cstddef>
#include <cstdint>

#include "knapsaq/base/float16.h"

namespace knapsaq::simd::KNAPSAQ_SET {

constexpr const char* kFamily = "portable";
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
constexpr bool kSumsInTurn = true;

}  // namespace knapsaq::simd::KNAPSAQ_SET

#include "knapsaq/base/simd/vectors.h"

namespace knapsaq::simd::KNAPSAQ_SET {

inline Floats splat(float x) { return Floats{x, x, x, x}; }
inline Floats load_part(const float* p, int count, float fill = 0) {
  Floats v = splat(fill);
  for (int i = 0; i < kLanes; ++i)
    if (i < count) v[i] = p[i];
  return v;
}
inline void store_part(float* p, Floats v, int count) {
  for (int i = 0; i < count; ++i) p[i] = v[i];
}

inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
inline Ints to_ints(Floats v) { return __builtin_convertvector(v, Ints); }
inline Ints load_ints(const std::int8_t* p) { return Ints{p[0], p[1], p[2], p[3]}; }
inline Ints load_ints(const std::uint8_t* p) { return Ints{p[0], p[1], p[2], p[3]}; }

/// fp16 in the low halves of their lanes.
inline Floats floats_of_halves(Ints half) {
  // With exponent and mantissa in place, a float's exponent is 112 too small; the product also makes normal
  // numbers of subnormal ones. Infinity and NaN get the highest exponent.
  const Floats scaled = floats_of((half & 0x7FFF) << 13) * splat(0x1p112f);
  const Ints beyond = (half & 0x7C00) == 0x7C00;
  return floats_of(bits_of(scaled) | (beyond & 0x7F800000) | ((half & 0x8000) << 16));
}
inline Floats load(const Half* p) {
  return floats_of_halves(Ints{static_cast<std::int32_t>(p[0]), static_cast<std::int32_t>(p[1]),
                               static_cast<std::int32_t>(p[2]), static_cast<std::int32_t>(p[3])});
}
inline void store(Half* p, Floats v) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Half>(float_to_half(v[i]));
}

inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
inline Floats vmax(Floats a, Floats b) { return a > b ? a : b; }
inline Floats vmin(Floats a, Floats b) { return a < b ? a : b; }
inline Floats if_less(Floats a, Floats b, Floats yes, Floats no) { return a < b ? yes : no; }
inline Floats vsqrt(Floats v) {
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
inline Floats magnitude(Floats v) { return floats_of(bits_of(v) & 0x7FFFFFFF); }
inline Floats with_sign(Floats size, Floats sign) {
  return floats_of(bits_of(size) | (bits_of(sign) & static_cast<std::int32_t>(0x80000000)));
}
/// 1.5 * 2^23 puts the last bit at 1, so that the addition rounds.
inline Floats nearest(Floats v) { return (v + splat(0x1.8p23f)) - splat(0x1.8p23f); }
inline Floats from_nearest(Floats v) { return v - nearest(v); }
inline Floats keep_first(Floats v, int count) {
  const Ints lanes = {0, 1, 2, 3};
  return floats_of(bits_of(v) & (lanes < count));
}

inline float sum_of(Floats v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline float tree_sum(Floats v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float largest_of(Floats v) {
  const float a = v[0] > v[1] ? v[0] : v[1];
  const float b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
inline float smallest_of(Floats v) {
  const float a = v[0] < v[1] ? v[0] : v[1];
  const float b = v[2] < v[3] ? v[2] : v[3];
  return a < b ? a : b;
}

inline Floats split_exponent(Floats x, Floats& fraction) {
  // 2^-126 is the smallest normal power; what is below becomes it.
  const Floats bounded = vmax(splat(-126.0f), x);
  const Floats cut = to_floats(to_ints(bounded));
  const Floats whole = cut > bounded ? cut - splat(1.0f) : cut;
  fraction = bounded - whole;
  return whole;
}
inline Floats scale_exponent(Floats p, Floats n) { return floats_of(bits_of(p) + (to_ints(n) << 23)); }

inline void store_codes(std::uint8_t* p, Floats v, int count) {
  for (int i = 0; i < kLanes; ++i)
    if (i < count) p[i] = static_cast<std::uint8_t>(v[i]);
}

struct Doubles {
  using Two = double __attribute__((vector_size(16)));
  Two a = {}, b = {};
};
inline Doubles operator+(Doubles x, Doubles y) { return {x.a + y.a, x.b + y.b}; }
inline Doubles with_squares(Doubles sums, Floats v) {
  const Doubles wide = {{v[0], v[1]}, {v[2], v[3]}};
  return {sums.a + wide.a * wide.a, sums.b + wide.b * wide.b};
}
inline double tree_sum(Doubles v) { return (v.a[0] + v.b[0]) + (v.a[1] + v.b[1]); }

// ---- rows of four bytes -----------------------------------------------------------------------------------

inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  return (low & mask) | (high & static_cast<unsigned char>(~mask));
}
constexpr bool kPermutesBits = false;
template <std::uint64_t, class V>
V permuted(V v);

constexpr bool kSignedDots = false;
template <class S, class V>
S dot_signed(S sum, V w, const std::int8_t* x);
template <bool kWide>
inline Ints dot(Ints sum, Bytes u, const std::int8_t* x) {
  // A product of eight bits takes 16 with its sign: two of a row in a lane, one in its lower and one in its
  // upper half.
  using Products = std::int16_t __attribute__((vector_size(16)));
  const auto pair = [](std::int8_t low, std::int8_t high) {
    return Products{low, high, low, high, low, high, low, high};
  };
  const auto both = [](Products products) {
    const Ints lanes = reinterpret_cast<Ints>(products);
    return ((lanes << 16) >> 16) + (lanes >> 16);
  };
  const Shorts words = reinterpret_cast<Shorts>(u);
  const Products even = reinterpret_cast<Products>(words & 255) * pair(x[0], x[2]);
  const Products odd = reinterpret_cast<Products>(words >> 8) * pair(x[1], x[3]);
  return sum + (both(even) + both(odd));
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  for (int i = 0; i < 4 * kLanes; ++i) u[i] = table[u[i]];
  return u;
}
inline Floats lookup(Floats u, const float* table) {
  for (int i = 0; i < kLanes; ++i) u[i] = table[static_cast<int>(u[i])];
  return u;
}

inline Floats first_half(Words pairs) { return floats_of_halves(reinterpret_cast<Ints>(pairs & 0xFFFF)); }
inline Floats second_half(Words pairs) { return floats_of_halves(reinterpret_cast<Ints>(pairs >> 16)); }

inline float store_rounded(Floats v, std::int8_t* q) {
  constexpr int kTurns[4] = {0, 2, 1, 3};
  const Floats rounded = nearest(v);
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    const float one = rounded[kTurns[i]];
    const float code = one == one ? one : 0.0f;  // what is no number has no code
    q[i] = static_cast<std::int8_t>(code);
    sum += code;
  }
  return sum;
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
