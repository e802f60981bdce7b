#pragma once

// AVX-512 F, BW, DQ and VL: all that quantizers need.

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

namespace knapsaq::simd::KNAPSAQ_SET {

constexpr const char* kFamily = "avx512";
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
constexpr bool kSumsInTurn = false;

}  // namespace knapsaq::simd::KNAPSAQ_SET

#include "knapsaq/base/simd/vectors.h"

namespace knapsaq::simd::KNAPSAQ_SET {

inline __mmask16 first_lanes(int count) { return static_cast<__mmask16>((1u << count) - 1u); }

inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats load_part(const float* p, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
inline Floats load_part(const float* p, int count, float fill) {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(count), p);
}
inline void store_part(float* p, Floats v, int count) { _mm512_mask_storeu_ps(p, first_lanes(count), v); }

inline Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(v)); }
inline Ints to_ints(Floats v) { return reinterpret_cast<Ints>(_mm512_cvtps_epi32(v)); }
inline __m128i load_16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Ints load_ints(const std::int8_t* p) {
  return reinterpret_cast<Ints>(_mm512_cvtepi8_epi32(load_16(p)));
}
inline Ints load_ints(const std::uint8_t* p) {
  return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(load_16(p)));
}
inline Floats load(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store(Half* p, Floats v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats vmax(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats vmin(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats if_less(Floats a, Floats b, Floats yes, Floats no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline Floats vsqrt(Floats v) { return _mm512_sqrt_ps(v); }
inline Floats magnitude(Floats v) { return _mm512_abs_ps(v); }
inline Floats with_sign(Floats size, Floats sign) {
  return _mm512_or_ps(size, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}
constexpr int kToNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
inline Floats nearest(Floats v) { return _mm512_roundscale_ps(v, kToNearestEven); }
inline Floats from_nearest(Floats v) { return _mm512_reduce_ps(v, kToNearestEven); }
inline Floats keep_first(Floats v, int count) { return _mm512_maskz_mov_ps(first_lanes(count), v); }

inline float tree_sum(Floats v) { return _mm512_reduce_add_ps(v); }
inline float sum_of(Floats v) { return tree_sum(v); }
inline float largest_of(Floats v) { return _mm512_reduce_max_ps(v); }
inline float smallest_of(Floats v) { return _mm512_reduce_min_ps(v); }

inline Floats split_exponent(Floats x, Floats& fraction) {
  fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return x;  // scalef rounds down itself
}
inline Floats scale_exponent(Floats p, Floats n) { return _mm512_scalef_ps(p, n); }

inline void store_codes(std::uint8_t* p, Floats v, int count) {
  _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(count), _mm512_cvtps_epi32(v));
}

struct Doubles {
  __m512d a = _mm512_setzero_pd(), b = _mm512_setzero_pd();
};
inline Doubles with_squares(Doubles sums, Floats v) {
  const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
  const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  return {_mm512_add_pd(sums.a, _mm512_mul_pd(a, a)), _mm512_add_pd(sums.b, _mm512_mul_pd(b, b))};
}
inline double tree_sum(Doubles v) {
  const __m512d eight = _mm512_add_pd(v.a, v.b);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// ---- rows of four bytes -----------------------------------------------------------------------------------

inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  // mask ? low : high, bit by bit
  return reinterpret_cast<Bytes>(_mm512_ternarylogic_epi64(_mm512_set1_epi8(static_cast<char>(mask)),
                                                           reinterpret_cast<__m512i>(low),
                                                           reinterpret_cast<__m512i>(high), 0xCA));
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  return reinterpret_cast<Bytes>(
      _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_16(table)), reinterpret_cast<__m512i>(u)));
}
inline Floats lookup(Floats u, const float* table) {
  return _mm512_permutexvar_ps(_mm512_cvtps_epi32(u), _mm512_loadu_ps(table));
}

inline Floats first_half(Words pairs) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(pairs)));
}
inline Floats second_half(Words pairs) { return first_half(pairs >> 16); }

inline float store_rounded(Floats v, std::int8_t* q) {
  const __m512i codes = _mm512_cvtps_epi32(v);
  const __m128i turns = _mm_set_epi8(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(codes), turns));
  return static_cast<float>(_mm512_reduce_add_epi32(codes));
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
