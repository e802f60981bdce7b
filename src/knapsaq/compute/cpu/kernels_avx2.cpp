// AVX2 with FMA and F16C, which every processor with AVX2 has.
#include <cstddef>
#include <type_traits>

#include <immintrin.h>

#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {
namespace {

using Vec = __m256;
constexpr int kLanes = 8;
// 12 accumulators, 2 vectors of B and the broadcast fill 15 of 16 registers.
constexpr int kTileRows = 6;
constexpr int kTileVecs = 2;
// Two vectors of scores each: eight sums, two vectors of keys and the broadcast.
constexpr int kCacheQueries = 4;

inline __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec splat(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline Vec load_part(const float* p, int count) { return _mm256_maskload_ps(p, first_lanes(count)); }
inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline void store_part(float* p, Vec v, int count) { _mm256_maskstore_ps(p, first_lanes(count), v); }

inline Vec load(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store(Half* p, Vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec vsqrt(Vec v) { return _mm256_sqrt_ps(v); }
inline float sum_of(Vec v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float largest_of(Vec v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline Vec split_exponent(Vec x, Vec& fraction) {
  // 2^-126 is the smallest normal power; what is below becomes it.
  const Vec bounded = vmax(splat(-126.0f), x);
  const Vec whole = _mm256_floor_ps(bounded);
  fraction = bounded - whole;
  return whole;
}
inline Vec scale_exponent(Vec p, Vec n) {
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), bits));
}

template <class T>
struct Dot;
inline Vec exp2_precise(Vec x);

template <>
struct Dot<float> {
  static constexpr int kPair = 1;
  using Operand = Vec;
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Vec add(Vec sum, Vec x, Vec row) { return _mm256_fmadd_ps(x, row, sum); }
  static void copy_group(const float* from, float* to) { *to = *from; }
  static void interleave(const float* rows, std::int64_t /*pitch*/, std::int64_t width, float* to) {
    __builtin_memcpy(to, rows, static_cast<std::size_t>(width) * sizeof(float));
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, float* out) {
    for (std::int64_t j = 0; j < extent; j += kLanes) {
      const Vec p = exp2_precise(_mm256_loadu_ps(scores + j) - shift);
      sum = sum + p;
      _mm256_storeu_ps(out + j, p);
    }
    return sum;
  }
};

#include "knapsaq/compute/cpu/kernels_body.h"

constexpr Kernels<float> kFloat = make_kernels<float>("avx2");

}  // namespace

const Kernels<float>& avx2_kernels() { return kFloat; }

}  // namespace knapsaq::cpu
