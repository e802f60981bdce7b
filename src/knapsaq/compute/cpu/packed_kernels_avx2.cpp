// AVX2 with FMA and F16C: every vector of 64 bytes is two of 32.
#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu {
namespace {

struct Vec {
  __m256 a, b;
};
struct Ints {
  __m256i a, b;
};
struct Bytes {
  __m256i a, b;
};
struct Pairs {
  __m256i a, b;
};

inline Vec operator+(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vec operator-(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vec operator*(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vec splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
inline Vec fma(Vec x, Vec y, Vec z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

inline Vec vmax(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vec magnitude(Vec v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b)};
}
inline float largest_of(Vec v) {
  const __m256 eight = _mm256_max_ps(v.a, v.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline float sum_of(Vec v) {
  const __m256 eight = _mm256_add_ps(v.a, v.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float store_rounded(Vec v, std::int8_t* q) {
  const __m256i a = _mm256_cvtps_epi32(v.a);
  const __m256i b = _mm256_cvtps_epi32(v.b);
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  const __m128i turns = _mm_set_epi8(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm_shuffle_epi8(_mm_packs_epi16(low, high), turns));
  return sum_of({_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)});
}

inline __m256i load_32(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes load_bytes(const std::byte* p) { return {load_32(p), load_32(p + 32)}; }
inline Bytes masked(Bytes v, unsigned char mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(v.a, m), _mm256_and_si256(v.b, m)};
}
inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_or_si256(_mm256_and_si256(low.a, m), _mm256_andnot_si256(m, high.a)),
          _mm256_or_si256(_mm256_and_si256(low.b, m), _mm256_andnot_si256(m, high.b))};
}
template <int kBits>
inline Bytes shifted_right(Bytes v) {
  return {_mm256_srli_epi16(v.a, kBits), _mm256_srli_epi16(v.b, kBits)};
}
template <int kBits>
inline Bytes shifted_left(Bytes v) {
  return {_mm256_slli_epi16(v.a, kBits), _mm256_slli_epi16(v.b, kBits)};
}

constexpr bool kPermutesBits = false;
template <std::uint64_t>
Bytes permuted(Bytes v);

inline Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Vec to_float(Ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
/// Products of neighbours are summed in 16 bits: 2 * 63 * 127 fits.
inline __m256i dot_narrow(__m256i u, __m256i x) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1));
}
/// Codes above 63 in two halves of four bits.
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
  if constexpr (kWide)
    return {_mm256_add_epi32(sum.a, dot_wide(u.a, all)), _mm256_add_epi32(sum.b, dot_wide(u.b, all))};
  return {_mm256_add_epi32(sum.a, dot_narrow(u.a, all)), _mm256_add_epi32(sum.b, dot_narrow(u.b, all))};
}
template <int kByte>
inline Vec column(Bytes u) {
  const __m256i byte = _mm256_set1_epi32(255);
  return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(u.a, 8 * kByte), byte)),
          _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(u.b, 8 * kByte), byte))};
}

inline __m128i load_8(const std::byte* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
inline __m128i load_16(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline Vec load_half(const std::byte* p) {
  return {_mm256_cvtph_ps(load_16(p)), _mm256_cvtph_ps(load_16(p + 16))};
}
inline Vec load_u8(const std::byte* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8(p))),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8(p + 8)))};
}
inline Vec load_i8(const std::byte* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_8(p))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_8(p + 8)))};
}
inline Vec low_nibbles(const std::byte* p) {
  const __m256i nibble = _mm256_set1_epi32(15);
  return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_cvtepu8_epi32(load_8(p)), nibble)),
          _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_cvtepu8_epi32(load_8(p + 8)), nibble))};
}
inline Vec high_nibbles(const std::byte* p) {
  return {_mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_cvtepu8_epi32(load_8(p)), 4)),
          _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_cvtepu8_epi32(load_8(p + 8)), 4))};
}

inline Pairs load_pairs(const std::byte* p) { return {load_32(p), load_32(p + 32)}; }
/// The low 16 bits of eight numbers below 2^16.
inline __m128i low_words(__m256i v) {
  return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
inline Vec first_half(Pairs v) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  return {_mm256_cvtph_ps(low_words(_mm256_and_si256(v.a, low))),
          _mm256_cvtph_ps(low_words(_mm256_and_si256(v.b, low)))};
}
inline Vec second_half(Pairs v) {
  return {_mm256_cvtph_ps(low_words(_mm256_srli_epi32(v.a, 16))),
          _mm256_cvtph_ps(low_words(_mm256_srli_epi32(v.b, 16)))};
}
inline Vec first_bf16(Pairs v) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(v.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(v.b, 16))};
}
inline Vec second_bf16(Pairs v) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(v.a, high)), _mm256_castsi256_ps(_mm256_and_si256(v.b, high))};
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  const __m256i entries =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(entries, u.a), _mm256_shuffle_epi8(entries, u.b)};
}
inline __m256 lookup(__m256 u, const float* table) {
  // The lower 8 entries by three bits; where the index is above, the upper ones.
  const __m256i index = _mm256_cvtps_epi32(u);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
inline Vec lookup(Vec u, const float* table) { return {lookup(u.a, table), lookup(u.b, table)}; }

#include "knapsaq/compute/cpu/packed_kernels_body.h"

constexpr PackedKernels kKernels = common_packed_kernels();

}  // namespace

const PackedKernels& avx2_packed_kernels() { return kKernels; }

}  // namespace knapsaq::cpu
