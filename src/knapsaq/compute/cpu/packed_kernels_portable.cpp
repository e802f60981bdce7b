// Plain C++: what every processor runs, and what the others are tested against.
#include <cstddef>
#include <cstdint>

#include "knapsaq/base/float16.h"
#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu {
namespace {

template <class T, int kCount>
struct Lanes {
  T v[kCount];
};
template <class T, int kCount, class Function>
inline Lanes<T, kCount> each(Function f) {
  Lanes<T, kCount> out;
  for (int i = 0; i < kCount; ++i) out.v[i] = static_cast<T>(f(i));
  return out;
}

using Vec = Lanes<float, 16>;
using Ints = Lanes<std::int32_t, 16>;
using Bytes = Lanes<std::uint8_t, 64>;
using Pairs = Lanes<std::uint16_t, 32>;

inline Vec operator+(Vec x, Vec y) {
  return each<float, 16>([&](int i) { return x.v[i] + y.v[i]; });
}
inline Vec operator-(Vec x, Vec y) {
  return each<float, 16>([&](int i) { return x.v[i] - y.v[i]; });
}
inline Vec operator*(Vec x, Vec y) {
  return each<float, 16>([&](int i) { return x.v[i] * y.v[i]; });
}
inline Vec splat(float x) {
  return each<float, 16>([&](int) { return x; });
}
inline Vec load(const float* p) {
  Vec out;
  __builtin_memcpy(out.v, p, sizeof(out.v));
  return out;
}
inline void store(float* p, Vec v) { __builtin_memcpy(p, v.v, sizeof(v.v)); }
inline Vec fma(Vec x, Vec y, Vec z) { return x * y + z; }

inline Vec vmax(Vec x, Vec y) {
  return each<float, 16>([&](int i) { return x.v[i] > y.v[i] ? x.v[i] : y.v[i]; });
}
inline Vec magnitude(Vec v) {
  return each<float, 16>([&](int i) { return v.v[i] < 0 ? -v.v[i] : v.v[i]; });
}
inline float largest_of(Vec v) {
  float largest = v.v[0];
  for (const float value : v.v) largest = value > largest ? value : largest;
  return largest;
}
inline float sum_of(Vec v) {
  float sum = 0;
  for (const float value : v.v) sum += value;
  return sum;
}
inline float store_rounded(Vec v, std::int8_t* q) {
  constexpr int kTurns[4] = {0, 2, 1, 3};
  float sum = 0;
  for (int i = 0; i < 16; ++i) {
    // Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const float rounded = (v.v[i / 4 * 4 + kTurns[i % 4]] + 12582912.0f) - 12582912.0f;
    const float code = rounded == rounded ? rounded : 0.0f;  // what is no number has no code
    q[i] = static_cast<std::int8_t>(code);
    sum += code;
  }
  return sum;
}

inline Bytes load_bytes(const std::byte* p) {
  Bytes out;
  __builtin_memcpy(out.v, p, sizeof(out.v));
  return out;
}
inline Bytes masked(Bytes v, unsigned char mask) {
  return each<std::uint8_t, 64>([&](int i) { return v.v[i] & mask; });
}
inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  return each<std::uint8_t, 64>([&](int i) { return (low.v[i] & mask) | (high.v[i] & ~mask); });
}
template <int kBits>
inline Bytes shifted_right(Bytes v) {
  return each<std::uint8_t, 64>([&](int i) { return v.v[i] >> kBits; });
}
template <int kBits>
inline Bytes shifted_left(Bytes v) {
  return each<std::uint8_t, 64>([&](int i) { return v.v[i] << kBits; });
}

constexpr bool kPermutesBits = false;
template <std::uint64_t>
Bytes permuted(Bytes v);

inline Ints zero_ints() {
  return each<std::int32_t, 16>([](int) { return 0; });
}
inline Vec to_float(Ints v) {
  return each<float, 16>([&](int i) { return v.v[i]; });
}
template <bool kWide>
inline Ints dot(Ints sum, Bytes u, const std::int8_t* x) {
  return each<std::int32_t, 16>([&](int i) {
    std::int32_t one = sum.v[i];
    for (int j = 0; j < 4; ++j) one += u.v[4 * i + j] * x[j];
    return one;
  });
}
template <int kByte>
inline Vec column(Bytes u) {
  return each<float, 16>([&](int i) { return u.v[4 * i + kByte]; });
}

inline Vec load_half(const std::byte* p) {
  std::uint16_t bits[16];
  __builtin_memcpy(bits, p, sizeof(bits));
  return each<float, 16>([&](int i) { return half_to_float(bits[i]); });
}
inline Vec load_u8(const std::byte* p) {
  return each<float, 16>([&](int i) { return static_cast<std::uint8_t>(p[i]); });
}
inline Vec load_i8(const std::byte* p) {
  return each<float, 16>([&](int i) { return static_cast<std::int8_t>(p[i]); });
}
inline Vec low_nibbles(const std::byte* p) {
  return each<float, 16>([&](int i) { return static_cast<std::uint8_t>(p[i]) & 15; });
}
inline Vec high_nibbles(const std::byte* p) {
  return each<float, 16>([&](int i) { return static_cast<std::uint8_t>(p[i]) >> 4; });
}

inline Pairs load_pairs(const std::byte* p) {
  Pairs out;
  __builtin_memcpy(out.v, p, sizeof(out.v));
  return out;
}
inline Vec first_half(Pairs v) {
  return each<float, 16>([&](int i) { return half_to_float(v.v[2 * i]); });
}
inline Vec second_half(Pairs v) {
  return each<float, 16>([&](int i) { return half_to_float(v.v[2 * i + 1]); });
}
inline Vec first_bf16(Pairs v) {
  return each<float, 16>([&](int i) { return bfloat16_to_float(v.v[2 * i]); });
}
inline Vec second_bf16(Pairs v) {
  return each<float, 16>([&](int i) { return bfloat16_to_float(v.v[2 * i + 1]); });
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  return each<std::uint8_t, 64>([&](int i) { return table[u.v[i]]; });
}
inline Vec lookup(Vec u, const float* table) {
  return each<float, 16>([&](int i) { return table[static_cast<int>(u.v[i])]; });
}

#include "knapsaq/compute/cpu/packed_kernels_body.h"

constexpr PackedKernels kKernels = common_packed_kernels();

}  // namespace

const PackedKernels& portable_packed_kernels() { return kKernels; }

}  // namespace knapsaq::cpu
