// AVX-512 with VNNI, bfloat16 products and GFNI.
#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu {
namespace {

using Vec = __m512;
using Ints = __m512i;
struct Bytes {
  __m512i v;
};
struct Pairs {
  __m512i v;
};

inline Vec splat(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec magnitude(Vec v) { return _mm512_abs_ps(v); }
inline float largest_of(Vec v) { return _mm512_reduce_max_ps(v); }
inline float sum_of(Vec v) { return _mm512_reduce_add_ps(v); }
inline float store_rounded(Vec v, std::int8_t* q) {
  const __m512i codes = _mm512_cvtps_epi32(v);
  const __m128i turns = _mm_set_epi8(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(codes), turns));
  return static_cast<float>(_mm512_reduce_add_epi32(codes));
}

inline Bytes load_bytes(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
inline Bytes masked(Bytes v, unsigned char mask) {
  return {_mm512_and_si512(v.v, _mm512_set1_epi8(static_cast<char>(mask)))};
}
inline Bytes merged(Bytes low, Bytes high, unsigned char mask) {
  // mask ? low : high, bit by bit
  return {_mm512_ternarylogic_epi64(_mm512_set1_epi8(static_cast<char>(mask)), low.v, high.v, 0xCA)};
}
template <int kBits>
inline Bytes shifted_right(Bytes v) {
  return {_mm512_srli_epi16(v.v, kBits)};
}
template <int kBits>
inline Bytes shifted_left(Bytes v) {
  return {_mm512_slli_epi16(v.v, kBits)};
}

constexpr bool kPermutesBits = true;
template <std::uint64_t kMatrix>
inline Bytes permuted(Bytes v) {
  return {_mm512_gf2p8affine_epi64_epi8(v.v, _mm512_set1_epi64(static_cast<long long>(kMatrix)), 0)};
}

inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline Vec to_float(Ints v) { return _mm512_cvtepi32_ps(v); }
template <bool kWide>
inline Ints dot(Ints sum, Bytes u, const std::int8_t* x) {
  std::int32_t four;
  __builtin_memcpy(&four, x, sizeof(four));
  return _mm512_dpbusd_epi32(sum, u.v, _mm512_set1_epi32(four));
}
template <int kByte>
inline Vec column(Bytes u) {
  if constexpr (kByte == 3) return _mm512_cvtepi32_ps(_mm512_srli_epi32(u.v, 24));
  const __m512i low = kByte == 0 ? u.v : _mm512_srli_epi32(u.v, 8 * kByte);
  return _mm512_cvtepi32_ps(_mm512_and_si512(low, _mm512_set1_epi32(255)));
}

inline __m128i load_16(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline Vec load_half(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_u8(const std::byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_16(p))); }
inline Vec load_i8(const std::byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(p))); }
inline Vec low_nibbles(const std::byte* p) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_cvtepu8_epi32(load_16(p)), _mm512_set1_epi32(15)));
}
inline Vec high_nibbles(const std::byte* p) {
  return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(load_16(p)), 4));
}

inline Pairs load_pairs(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
inline Vec first_half(Pairs v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v.v)); }
inline Vec second_half(Pairs v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v.v, 16))); }
inline Vec first_bf16(Pairs v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v.v, 16)); }
inline Vec second_bf16(Pairs v) {
  return _mm512_castsi512_ps(_mm512_and_si512(v.v, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
}

inline Bytes lookup(Bytes u, const std::uint8_t* table) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), u.v)};
}
inline Vec lookup(Vec u, const float* table) {
  return _mm512_permutexvar_ps(_mm512_cvtps_epi32(u), _mm512_loadu_ps(table));
}

#include "knapsaq/compute/cpu/packed_kernels_body.h"

/// Codes become bfloat16 by looking them up, two columns of 16 rows at a time. Codes up to 31 are one table;
/// larger ones and the values of NF4, which have more than eight significant bits, are a sum of two.
struct Bf16Dots {
  using Input = PlainInput<Bf16>;
  template <Code kCode>
  static constexpr bool serves() {
    return kCode != Code::f16 && kCode != Code::f32;
  }
  template <Code kCode>
  static void prepare(const PackedView&, Bytes*) {}
  static Vec of_nf4(Vec sum, float) { return sum; }

  static __m512bh pair_of(const Bf16* p) {
    std::int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
  }
  static Vec add(Vec sum, __m512i table, __m512i index, __m512bh x) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(index, table)), x);
  }
  /// factor * (0 .. 31)
  static __m512i integers(float factor) {
    const __m512i low = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const Vec first = _mm512_cvtepi32_ps(low);
    return reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh((first + splat(16)) * splat(factor), first * splat(factor)));
  }

  template <Code kCode>
  static Vec some(const PackedView& w, const Bytes* u, int first, int count, const PlainInput<Bf16>& input,
                  std::int64_t granule) {
    const Bf16* x = input.x + granule * kGranule;
    Vec a = splat(0), b = splat(0);
    if constexpr (kCode == Code::b8 || kCode == Code::b6 || kCode == Code::nf4) {
      Vec c = splat(0), d = splat(0);
      __m512i low, high;
      if constexpr (kCode == Code::nf4) {
        const Vec exact = _mm512_loadu_ps(w.values);
        low = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(exact, exact));
        const Vec rounded = first_bf16({_mm512_cvtepu16_epi32(_mm512_castsi512_si256(low))});
        high = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(exact - rounded, exact - rounded));
      } else {
        low = integers(1);
        high = integers(16);
      }
      const __m512i nibble = _mm512_set1_epi8(15);
      for (int i = first; i < first + count; ++i) {
        __m512i l = u[i].v;
        __m512i h = u[i].v;
        if constexpr (kCode != Code::nf4) {
          l = _mm512_and_si512(u[i].v, nibble);
          h = _mm512_and_si512(_mm512_srli_epi16(u[i].v, 4), nibble);
        }
        const __m512bh even = pair_of(x + 4 * i);
        const __m512bh odd = pair_of(x + 4 * i + 2);
        a = add(a, low, l, even);
        b = add(b, low, _mm512_srli_epi16(l, 8), odd);
        c = add(c, high, h, even);
        d = add(d, high, _mm512_srli_epi16(h, 8), odd);
      }
      return (a + c) + (b + d);
    } else {
      const __m512i table = integers(1);
      for (int i = first; i < first + count; ++i) {
        a = add(a, table, u[i].v, pair_of(x + 4 * i));
        b = add(b, table, _mm512_srli_epi16(u[i].v, 8), pair_of(x + 4 * i + 2));
      }
      return a + b;
    }
  }

  template <Code kCode, int kRows>
  static void dense(const PackedView& w, const std::byte* panel, const PlainInput<Bf16>* x, float* out,
                    std::int64_t pitch) {
    // Four sums a row hide the latency of the products where there is one row.
    constexpr int kSums = kRows == 1 ? 4 : 2;
    Vec sum[kRows][kSums];
    for (auto& row : sum)
      for (Vec& one : row) one = splat(0);
    const std::int64_t pairs = w.granules * kGranule / 2;
    for (std::int64_t p = 0; p < pairs; p += kSums) {
      prefetch<kSums * kVector>(panel + p * kVector);
      for (int s = 0; s < kSums; ++s) {
        const auto weights = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + (p + s) * kVector));
        for (int r = 0; r < kRows; ++r)
          sum[r][s] = _mm512_dpbf16_ps(sum[r][s], weights, pair_of(x[r].x + 2 * (p + s)));
      }
    }
    for (int r = 0; r < kRows; ++r) {
      Vec all = sum[r][0] + sum[r][1];
      if constexpr (kSums == 4) all = all + (sum[r][2] + sum[r][3]);
      store(out + r * pitch, all);
    }
  }
};

void dequantize_panel_bf16(const PackedView& w, std::int64_t index, Bf16* out, std::int64_t stride,
                           std::int64_t jump) {
  const std::byte* panel = w.data + index * w.panel_bytes;
  // Lane 2r of the result is row r of the first, lane 2r + 1 of the second.
  const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  with_packing(w, [&]<Code kCode, Factors kFactors>() {
    for (std::int64_t g = 0; g < w.granules; ++g)
      granule_weights<kCode, kFactors>(w, panel, g, [&](std::int64_t k, Vec a, Vec b) {
        const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
        _mm512_storeu_si512(out + g * jump + k / 2 * stride, _mm512_permutexvar_epi16(turns, both));
      });
  });
}

constexpr PackedKernels kKernels = [] {
  PackedKernels kernels = common_packed_kernels();
  kernels.multiply_bf16 = multiply_packed<Bf16Dots>;
  kernels.dequantize_bf16 = dequantize_panel_bf16;
  return kernels;
}();

}  // namespace

const PackedKernels& avx512_packed_kernels() { return kKernels; }

}  // namespace knapsaq::cpu
