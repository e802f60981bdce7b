// Sixteen lanes in one AVX-512 register. Compiled for AVX-512 F, BW, DQ and VL; called only where they exist.

#include <cstdint>

#include <immintrin.h>

#include "knapsaq/quant/group_kernels.h"

namespace knapsaq {

namespace {

struct Floats {
  __m512 v;
};

Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
__mmask16 first_lanes(std::int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
Floats load_part(const float* p, std::int64_t count, float fill) {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(count), p)};
}
void store(float* p, Floats x) { _mm512_storeu_ps(p, x.v); }
Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }
Floats operator+(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
Floats operator*(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
Floats operator/(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
Floats smaller(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
Floats larger(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
constexpr int kToNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
Floats nearest(Floats x) { return {_mm512_roundscale_ps(x.v, kToNearestEven)}; }
Floats from_nearest(Floats x) { return {_mm512_reduce_ps(x.v, kToNearestEven)}; }
Floats magnitude(Floats x) { return {_mm512_abs_ps(x.v)}; }
Floats with_sign(Floats size, Floats sign) {
  return {_mm512_or_ps(size.v, _mm512_and_ps(sign.v, _mm512_set1_ps(-0.0f)))};
}
Floats keep_first(Floats x, std::int64_t count) { return {_mm512_maskz_mov_ps(first_lanes(count), x.v)}; }

__m256 lower(Floats x) { return _mm512_castps512_ps256(x.v); }
__m256 upper(Floats x) { return _mm512_extractf32x8_ps(x.v, 1); }
float sum(Floats x) {
  const __m256 eight = _mm256_add_ps(lower(x), upper(x));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
float lowest(Floats x) {
  const __m256 eight = _mm256_min_ps(lower(x), upper(x));
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
}
float highest(Floats x) {
  const __m256 eight = _mm256_max_ps(lower(x), upper(x));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

Floats split(Floats x, Floats* mantissa) {
  // 0x3F3504F3 is sqrt(1/2): subtracting it first puts the mantissa between sqrt(1/2) and sqrt(2).
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i exponent = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3F3504F3)), 23);
  mantissa->v = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(exponent, 23)));
  return {_mm512_cvtepi32_ps(exponent)};
}
Floats times_power_of_two(Floats x, Floats whole) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(whole.v), _mm512_set1_epi32(127));
  return {_mm512_mul_ps(x.v, _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23)))};
}

void store_codes(std::uint8_t* codes, Floats x, std::int64_t count) {
  _mm512_mask_cvtepi32_storeu_epi8(codes, first_lanes(count), _mm512_cvtps_epi32(x.v));
}

struct Doubles {
  __m512d a = _mm512_setzero_pd();
  __m512d b = _mm512_setzero_pd();

  void add_squares(Floats x) {
    const __m512d first = _mm512_cvtps_pd(lower(x));
    const __m512d second = _mm512_cvtps_pd(upper(x));
    a = _mm512_add_pd(a, _mm512_mul_pd(first, first));
    b = _mm512_add_pd(b, _mm512_mul_pd(second, second));
  }
  double total() const {
    const __m512d eight = _mm512_add_pd(a, b);
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
};

#include "knapsaq/quant/group_kernels.inc"

}  // namespace

extern const GroupKernels kGroupKernelsAvx512;
const GroupKernels kGroupKernelsAvx512 = {"avx512",      range,         hqq_zero,     encode,
                                          squared_error, weighted_sums, inverse_power};

}  // namespace knapsaq
