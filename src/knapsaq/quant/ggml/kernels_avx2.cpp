// Sixteen lanes in two AVX2 registers. Compiled for AVX2; called only where it exists.

#include <cstdint>

#include <immintrin.h>

#include "knapsaq/quant/ggml/kernels.h"

namespace knapsaq {

namespace {

struct Floats {
  __m256 a;
  __m256 b;
};

Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
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
Floats if_less(Floats x, Floats y, Floats yes, Floats no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}

#include "knapsaq/quant/ggml/search.inc"

}  // namespace

extern const GgmlKernels kGgmlKernelsAvx2;
const GgmlKernels kGgmlKernelsAvx2 = {"avx2", search};

}  // namespace knapsaq
