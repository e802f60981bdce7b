// Compiled with -mavx -mf16c: nothing here may run before the processor was asked.
#include "knapsaq/compute/convert_f16c.h"

#include <cstring>

#include <immintrin.h>

namespace knapsaq {

void convert_half_f16c(const std::byte* in, float* out, std::size_t count) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  for (; i < count; ++i) {
    unsigned short half;
    std::memcpy(&half, in + 2 * i, sizeof half);
    out[i] = _cvtsh_ss(half);
  }
}

}  // namespace knapsaq
