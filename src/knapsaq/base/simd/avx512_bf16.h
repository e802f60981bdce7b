#pragma once

// AVX-512 with products of bfloat16 and of bytes (VNNI), and GFNI: Zen 4 and later, Sapphire Rapids and
// later.

#include "knapsaq/base/simd/avx512.h"

/// There are products of bfloat16: the operations below.
#define KNAPSAQ_SIMD_BF16

namespace knapsaq::simd::KNAPSAQ_SET {

constexpr bool kPermutesBits = true;
template <std::uint64_t kMatrix>
inline Bytes permuted(Bytes v) {
  return reinterpret_cast<Bytes>(_mm512_gf2p8affine_epi64_epi8(
      reinterpret_cast<__m512i>(v), _mm512_set1_epi64(static_cast<long long>(kMatrix)), 0));
}
constexpr bool kSignedDots = false;
template <class S, class V>
S dot_signed(S sum, V w, const std::int8_t* x);
template <bool kWide>
inline Ints dot(Ints sum, Bytes u, const std::int8_t* x) {
  std::int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                    reinterpret_cast<__m512i>(u), _mm512_set1_epi32(four)));
}

// ---- bfloat16 as floats -----------------------------------------------------------------------------------

inline Floats widened(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline __m256i narrowed(Floats v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)); }
inline Floats load(const Bf16* p) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Floats load_part(const Bf16* p, int count) {
  return widened(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
inline void store(Bf16* p, Floats v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(v)); }
inline void store_part(Bf16* p, Floats v, int count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), narrowed(v));
}
inline Floats rounded_to_bf16(Floats v) { return widened(narrowed(v)); }

// ---- kLanes pairs of bfloat16 -----------------------------------------------------------------------------

using Bf16Pairs = __m512bh;
inline Bf16Pairs load_bf16_pairs(const void* p) { return reinterpret_cast<Bf16Pairs>(_mm512_loadu_si512(p)); }
inline Bf16Pairs splat_pair(const Bf16* p) {
  std::int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return reinterpret_cast<Bf16Pairs>(_mm512_set1_epi32(pair));
}
/// sum += a b of both numbers of a lane.
inline Floats dot(Floats sum, Bf16Pairs a, Bf16Pairs b) { return _mm512_dpbf16_ps(sum, a, b); }
/// The lanes of two registers, one behind the other.
inline Bf16Pairs rounded_behind(Floats first, Floats second) { return _mm512_cvtne2ps_pbh(second, first); }
/// The lanes of two registers, in turns.
inline Bf16Pairs rounded_in_turns(Floats even, Floats odd) {
  const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return reinterpret_cast<Bf16Pairs>(
      _mm512_permutexvar_epi16(turns, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even))));
}
/// kLanes numbers from each of two addresses, in turns.
inline Bf16Pairs in_turns(const Bf16* even, const Bf16* odd) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even)));
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd)));
  return reinterpret_cast<Bf16Pairs>(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
inline void store(Bf16* p, Bf16Pairs v) { _mm512_storeu_si512(p, reinterpret_cast<__m512i>(v)); }
/// Of a table of 32 numbers those whose indices are in the even bytes, whose upper bits do not count.
inline Bf16Pairs lookup(Bytes index, Bf16Pairs table) {
  return reinterpret_cast<Bf16Pairs>(
      _mm512_permutexvar_epi16(reinterpret_cast<__m512i>(index), reinterpret_cast<__m512i>(table)));
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
