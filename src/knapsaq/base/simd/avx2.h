#pragma once

// AVX2 with FMA and F16C, which every processor with AVX2 has.

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

namespace knapsaq::simd::KNAPSAQ_SET {

constexpr const char* kFamily = "avx2";
constexpr int kLanes = 8;
constexpr int kRegisters = 16;
constexpr bool kSumsInTurn = false;

}  // namespace knapsaq::simd::KNAPSAQ_SET

#include "knapsaq/base/simd/vectors.h"

namespace knapsaq::simd::KNAPSAQ_SET {

inline __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m128i load_8(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }

inline Floats splat(float x) { return _mm256_set1_ps(x); }
inline Floats load_part(const float* p, int count) { return _mm256_maskload_ps(p, first_lanes(count)); }
inline Floats load_part(const float* p, int count, float fill) {
  const __m256i there = first_lanes(count);
  return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, there), _mm256_castsi256_ps(there));
}
inline void store_part(float* p, Floats v, int count) { _mm256_maskstore_ps(p, first_lanes(count), v); }

inline Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(v)); }
inline Ints to_ints(Floats v) { return reinterpret_cast<Ints>(_mm256_cvtps_epi32(v)); }
inline Ints load_ints(const std::int8_t* p) {
  return reinterpret_cast<Ints>(_mm256_cvtepi8_epi32(load_8(p)));
}
inline Ints load_ints(const std::uint8_t* p) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(load_8(p)));
}
inline Floats load(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store(Half* p, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats vmax(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats vmin(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats if_less(Floats a, Floats b, Floats yes, Floats no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline Floats vsqrt(Floats v) { return _mm256_sqrt_ps(v); }
inline Floats magnitude(Floats v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
inline Floats with_sign(Floats size, Floats sign) {
  return _mm256_or_ps(size, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
inline Floats nearest(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats from_nearest(Floats v) { return v - nearest(v); }
inline Floats keep_first(Floats v, int count) {
  return _mm256_and_ps(v, _mm256_castsi256_ps(first_lanes(count)));
}

inline float tree_sum(Floats v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float sum_of(Floats v) { return tree_sum(v); }
inline float largest_of(Floats v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline float smallest_of(Floats v) {
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

inline Floats split_exponent(Floats x, Floats& fraction) {
  // 2^-126 is the smallest normal power; what is below becomes it.
  const Floats bounded = vmax(splat(-126.0f), x);
  const Floats whole = _mm256_floor_ps(bounded);
  fraction = bounded - whole;
  return whole;
}
inline Floats scale_exponent(Floats p, Floats n) { return floats_of(bits_of(p) + (to_ints(n) << 23)); }

inline void store_codes(std::uint8_t* p, Floats v, int count) {
  // The lowest byte of every lane, in four of each half, and these four beside each other.
  const __m256i turns = _mm256_set1_epi32(0x0C080400);
  const __m256i fours = _mm256_shuffle_epi8(_mm256_cvtps_epi32(v), turns);
  const __m256i eight = _mm256_permutevar8x32_epi32(fours, _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4));
  const __m128i bytes = _mm256_castsi256_si128(eight);
  if (count >= kLanes) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
  } else {
    std::uint8_t lanes[kLanes];
    _mm_storel_epi64(reinterpret_cast<__m128i*>(lanes), bytes);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
}

struct Doubles {
  __m256d a = _mm256_setzero_pd(), b = _mm256_setzero_pd();
};
inline Doubles operator+(Doubles x, Doubles y) { return {_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)}; }
inline Doubles with_squares(Doubles sums, Floats v) {
  const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
  const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
  return {_mm256_add_pd(sums.a, _mm256_mul_pd(a, a)), _mm256_add_pd(sums.b, _mm256_mul_pd(b, b))};
}
inline double tree_sum(Doubles v) {
  const __m256d four = _mm256_add_pd(v.a, v.b);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// ---- rows of four bytes -----------------------------------------------------------------------------------

inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  return (low & mask) | (high & static_cast<unsigned char>(~mask));
}
constexpr bool kPermutesBits = false;
template <std::uint64_t, class V>
V permuted(V v);

#ifndef KNAPSAQ_SIMD_OWN_DOT  // a set that includes this one has instructions for it
/// Products of neighbours are summed in 16 bits: 2 * 128 * 127 fits.
inline __m256i dot_narrow(__m256i u, __m256i x) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1));
}
/// Codes above 128 in two halves of four bits.
inline __m256i dot_wide(__m256i u, __m256i x) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i high = dot_narrow(_mm256_and_si256(_mm256_srli_epi16(u, 4), nibble), x);
  return _mm256_add_epi32(dot_narrow(_mm256_and_si256(u, nibble), x), _mm256_slli_epi32(high, 4));
}
template <bool kWide>
inline Ints dot(Ints sum, Bytes u, const std::int8_t* x) {
  std::int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  const __m256i all = _mm256_set1_epi32(four);
  const auto codes = reinterpret_cast<__m256i>(u);
  return sum + reinterpret_cast<Ints>(kWide ? dot_wide(codes, all) : dot_narrow(codes, all));
}
#endif

/// An input's size times the code with the input's sign.
constexpr bool kSignedDots = true;
inline Ints dot_signed(Ints sum, Bytes w, const std::int8_t* x) {
  std::int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  const __m256i all = _mm256_set1_epi32(four);
  return sum + reinterpret_cast<Ints>(
                   dot_narrow(_mm256_abs_epi8(all), _mm256_sign_epi8(reinterpret_cast<__m256i>(w), all)));
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  const __m256i entries =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return reinterpret_cast<Bytes>(_mm256_shuffle_epi8(entries, reinterpret_cast<__m256i>(u)));
}
inline Floats lookup(Floats u, const float* table) {
  // The lower 8 entries by three bits; where the index is above, the upper ones.
  const __m256i index = _mm256_cvtps_epi32(u);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/// The low 16 bits of eight numbers below 2^16.
inline __m128i low_words(Words v) {
  const auto all = reinterpret_cast<__m256i>(v);
  return _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}
inline Floats first_half(Words pairs) { return _mm256_cvtph_ps(low_words(pairs & 0xFFFF)); }
inline Floats second_half(Words pairs) { return _mm256_cvtph_ps(low_words(pairs >> 16)); }

inline float store_rounded(Floats v, std::int8_t* q) {
  const __m256i codes = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
  const __m128i turns = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 7, 5, 6, 4, 3, 1, 2, 0);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(q), _mm_shuffle_epi8(_mm_packs_epi16(words, words), turns));
  return sum_of(Floats(_mm256_cvtepi32_ps(codes)));
}

}  // namespace knapsaq::simd::KNAPSAQ_SET
