// AVX-512 with bfloat16 products (Zen 4 and later, Cooper Lake, Sapphire Rapids and later).
#include <cstddef>
#include <type_traits>

#include <immintrin.h>

#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {
namespace {

using Vec = __m512;
constexpr int kLanes = 16;
// 24 accumulators, 4 vectors of B and the broadcast fill the 32 registers, and 10 loads per 24 products stay
// below the two loads a cycle that the core has.
constexpr int kTileRows = 6;
constexpr int kTileVecs = 4;
// Eight sums of scores hide the latency of the additions; sixteen of values find room, too.
constexpr int kCacheQueries = 8;

inline __mmask16 first_lanes(int count) { return static_cast<__mmask16>((1u << count) - 1u); }

inline Vec splat(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec load_part(const float* p, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline void store_part(float* p, Vec v, int count) { _mm512_mask_storeu_ps(p, first_lanes(count), v); }

inline Vec widen(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline __m256i narrow(Vec v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)); }
inline Vec load(const Bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load_part(const Bf16* p, int count) {
  return widen(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
inline void store(Bf16* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
inline void store_part(Bf16* p, Vec v, int count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), narrow(v));
}

inline Vec load(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load(const std::int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store(Half* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec vsqrt(Vec v) { return _mm512_sqrt_ps(v); }
inline float sum_of(Vec v) { return _mm512_reduce_add_ps(v); }
inline float largest_of(Vec v) { return _mm512_reduce_max_ps(v); }
inline Vec split_exponent(Vec x, Vec& fraction) {
  fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return x;  // scalef rounds down itself
}
inline Vec scale_exponent(Vec p, Vec n) { return _mm512_scalef_ps(p, n); }

template <class T>
struct Dot;
inline Vec exp2_precise(Vec x);
inline Vec exp2_rough(Vec x);

template <>
struct Dot<float> {
  static constexpr int kPair = 1;
  using Operand = Vec;
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Vec add(Vec sum, Vec x, Vec row) { return _mm512_fmadd_ps(x, row, sum); }
  static void copy_group(const float* from, float* to) { *to = *from; }
  static void interleave(const float* rows, std::int64_t /*pitch*/, std::int64_t width, float* to) {
    __builtin_memcpy(to, rows, static_cast<std::size_t>(width) * sizeof(float));
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, float* out) {
    for (std::int64_t j = 0; j < extent; j += kLanes) {
      const Vec p = exp2_precise(_mm512_loadu_ps(scores + j) - shift);
      sum = sum + p;
      _mm512_storeu_ps(out + j, p);
    }
    return sum;
  }
};

template <>
struct Dot<Bf16> {
  static constexpr int kPair = 2;
  using Operand = __m512bh;
  static Operand load(const Bf16* p) { return reinterpret_cast<Operand>(_mm512_loadu_si512(p)); }
  static Operand broadcast(const Bf16* p) {
    std::int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return reinterpret_cast<Operand>(_mm512_set1_epi32(pair));
  }
  static Vec add(Vec sum, Operand x, Operand row) { return _mm512_dpbf16_ps(sum, x, row); }
  static void copy_group(const Bf16* from, Bf16* to) { __builtin_memcpy(to, from, 4); }
  /// Rows 0 and 1, element by element in turn; width is a multiple of kLanes.
  static void interleave(const Bf16* rows, std::int64_t pitch, std::int64_t width, Bf16* to) {
    for (std::int64_t d = 0; d < width; d += kLanes) {
      const __m512i even =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + d)));
      const __m512i odd =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + pitch + d)));
      _mm512_storeu_si512(to + 2 * d, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, Bf16* out) {
    std::int64_t j = 0;
    Vec second = splat(0);
    for (; j + 2 * kLanes <= extent; j += 2 * kLanes) {
      const Vec a = exp2_rough(_mm512_loadu_ps(scores + j) - shift);
      const Vec b = exp2_rough(_mm512_loadu_ps(scores + j + kLanes) - shift);
      sum = sum + a;
      second = second + b;
      _mm512_storeu_si512(out + j, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)));
    }
    if (j < extent) {
      const Vec a = exp2_rough(_mm512_loadu_ps(scores + j) - shift);
      sum = sum + a;
      store(out + j, a);
    }
    return sum + second;
  }
};

#include "knapsaq/compute/cpu/kernels_body.h"

constexpr Kernels<float> kFloat = make_kernels<float>("avx512");
constexpr Kernels<Bf16> kBf16 = make_kernels<Bf16>("avx512_bf16");

}  // namespace

const Kernels<float>& avx512_kernels() { return kFloat; }
const Kernels<Bf16>& avx512_bf16_kernels() { return kBf16; }

}  // namespace knapsaq::cpu
