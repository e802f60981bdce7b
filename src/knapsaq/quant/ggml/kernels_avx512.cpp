// Sixteen lanes in one AVX-512 register. Compiled for AVX-512 F; called only where it exists.

#include <cstdint>

#include <immintrin.h>

#include "knapsaq/quant/ggml/kernels.h"

namespace knapsaq {

namespace {

struct Floats {
  __m512 v;
};

Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
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
Floats if_less(Floats a, Floats b, Floats yes, Floats no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}

#include "knapsaq/quant/ggml/search.inc"

}  // namespace

extern const GgmlKernels kGgmlKernelsAvx512;
const GgmlKernels kGgmlKernelsAvx512 = {"avx512", search};

}  // namespace knapsaq
