#pragma once

// What the vectors of all instruction sets have in common, in the vector language that GCC and Clang share.
// Included by the file of a set (simd.h), which has defined kLanes.

#include <cstddef>
#include <cstdint>

#include "knapsaq/base/float16.h"

namespace knapsaq::simd::KNAPSAQ_SET {

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Words = std::uint32_t __attribute__((vector_size(4 * kLanes)));
/// A register of bytes: kLanes rows of four.
using Bytes = std::uint8_t __attribute__((vector_size(4 * kLanes)));
using Shorts = std::uint16_t __attribute__((vector_size(4 * kLanes)));

inline Floats load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof(v)); }

inline Ints bits_of(Floats v) { return reinterpret_cast<Ints>(v); }
inline Floats floats_of(Ints v) { return reinterpret_cast<Floats>(v); }

inline Bytes load_bytes(const std::byte* p) {
  Bytes v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
inline Bytes masked(Bytes v, unsigned char mask) { return v & mask; }
/// Every pair of bytes by kBits: what comes from the neighbour has to be masked.
template <int kBits>
inline Bytes shifted_right(Bytes v) {
  return reinterpret_cast<Bytes>(reinterpret_cast<Shorts>(v) >> kBits);
}
template <int kBits>
inline Bytes shifted_left(Bytes v) {
  return reinterpret_cast<Bytes>(reinterpret_cast<Shorts>(v) << kBits);
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
