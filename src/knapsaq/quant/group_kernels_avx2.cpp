// Sixteen lanes in two AVX2 registers. Compiled for AVX2; called only where it exists.

#include <cstdint>

#include <immintrin.h>

#include "knapsaq/quant/group_kernels.h"

namespace knapsaq {

namespace {

struct Floats {
  __m256 a;
  __m256 b;
};

Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
Floats load_part(const float* p, std::int64_t count, float fill) {
  alignas(32) float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = i < count ? p[i] : fill;
  return load(lanes);
}
void store(float* p, Floats x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
Floats broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
Floats operator+(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
Floats operator-(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
Floats operator*(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
Floats operator/(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
Floats smaller(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
Floats larger(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
constexpr int kToNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
Floats nearest(Floats x) {
  return {_mm256_round_ps(x.a, kToNearestEven), _mm256_round_ps(x.b, kToNearestEven)};
}
Floats from_nearest(Floats x) { return x - nearest(x); }
Floats magnitude(Floats x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
Floats with_sign(Floats size, Floats of) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(size.a, _mm256_and_ps(sign, of.a)), _mm256_or_ps(size.b, _mm256_and_ps(sign, of.b))};
}
Floats keep_first(Floats x, std::int64_t count) {
  alignas(32) float lanes[16];
  store(lanes, x);
  return load_part(lanes, count, 0.0f);
}

float sum(Floats x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
float lowest(Floats x) {
  const __m256 eight = _mm256_min_ps(x.a, x.b);
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
}
float highest(Floats x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

__m256 split_half(__m256 x, __m256* mantissa) {
  // 0x3F3504F3 is sqrt(1/2): subtracting it first puts the mantissa between sqrt(1/2) and sqrt(2).
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i exponent = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3F3504F3)), 23);
  *mantissa = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)));
  return _mm256_cvtepi32_ps(exponent);
}
Floats split(Floats x, Floats* mantissa) {
  return {split_half(x.a, &mantissa->a), split_half(x.b, &mantissa->b)};
}
__m256 power_of_two(__m256 whole) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
Floats times_power_of_two(Floats x, Floats whole) {
  return {_mm256_mul_ps(x.a, power_of_two(whole.a)), _mm256_mul_ps(x.b, power_of_two(whole.b))};
}

void store_codes(std::uint8_t* codes, Floats x, std::int64_t count) {
  // Packing works inside 128-bit halves; the permutation puts the four pieces back in order.
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0b11011000);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  alignas(16) std::uint8_t lanes[16];
  if (count == 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), bytes);
  } else {
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), bytes);
    for (std::int64_t i = 0; i < count; ++i) codes[i] = lanes[i];
  }
}

struct Doubles {
  __m256d a = _mm256_setzero_pd();  // lanes 0..3
  __m256d b = _mm256_setzero_pd();
  __m256d c = _mm256_setzero_pd();
  __m256d d = _mm256_setzero_pd();

  static __m256d plus_square(__m256d sums, __m128 x) {
    const __m256d wide = _mm256_cvtps_pd(x);
    return _mm256_add_pd(sums, _mm256_mul_pd(wide, wide));
  }
  void add_squares(Floats x) {
    a = plus_square(a, _mm256_castps256_ps128(x.a));
    b = plus_square(b, _mm256_extractf128_ps(x.a, 1));
    c = plus_square(c, _mm256_castps256_ps128(x.b));
    d = plus_square(d, _mm256_extractf128_ps(x.b, 1));
  }
  double total() const {
    const __m256d four = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};

#include "knapsaq/quant/group_kernels.inc"

}  // namespace

extern const GroupKernels kGroupKernelsAvx2;
const GroupKernels kGroupKernelsAvx2 = {"avx2",        range,         hqq_zero,     encode,
                                        squared_error, weighted_sums, inverse_power};

}  // namespace knapsaq
