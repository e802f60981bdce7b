// The products of packed_kernels.h: panels of sixteen rows.

#include <cstddef>
#include <cstdint>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/compute/cpu/packed_kernels.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;
using Vec = Floats16;

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

constexpr bool is_dense(Code code) { return code == Code::bf16 || code == Code::f16 || code == Code::f32; }
/// Whether codes are indices of levels.
constexpr bool has_levels(Code code) {
  return code == Code::level3 || code == Code::level4 || code == Code::wide4 || code == Code::nf4;
}
/// Whether int8 products multiply bytes beyond 128.
constexpr bool is_wide(Code code) { return code == Code::b8 || code == Code::wide4 || code == Code::nf4; }
constexpr int bits_of(Code code) {
  switch (code) {
    case Code::b2:
      return 2;
    case Code::b3:
    case Code::level3:
      return 3;
    case Code::b4:
    case Code::level4:
    case Code::wide4:
    case Code::nf4:
      return 4;
    case Code::b5:
      return 5;
    case Code::b6:
      return 6;
    case Code::b8:
      return 8;
    case Code::bf16:
    case Code::f16:
      return 16;
    case Code::f32:
      break;
  }
  return 32;
}

constexpr int kOperands = 8;  // of a tile
constexpr int kVector = 64;   // bytes
constexpr int kSuper = 8;     // tiles that share the first level of super_*

// Byte j of a row in an operand is column kColumn[j] of its four: so the even bytes, which are the low bytes
// of 16-bit lanes, are neighbours, and so are the odd ones.
constexpr int kColumn[4] = {0, 2, 1, 3};

// ---- codes ------------------------------------------------------------------------------------------------

/// kWidth bits of every byte from bit kFrom on, moved to bit kTo; other bits are anything.
template <int kFrom, int kTo>
inline Bytes16 moved(Bytes16 v) {
  if constexpr (kFrom > kTo) return shifted_right<kFrom - kTo>(v);
  if constexpr (kFrom < kTo) return shifted_left<kTo - kFrom>(v);
  return v;
}

constexpr unsigned char bits_below(int count) { return static_cast<unsigned char>((1 << count) - 1); }

/// The matrix of permuted() that moves bits [from, from + width) to bit 0 and [from2, from2 + width2) above
/// them: row 7 - i of it, a byte, says which bit becomes bit i.
constexpr std::uint64_t bit_matrix(int from, int width, int from2, int width2) {
  std::uint64_t matrix = 0;
  for (int i = 0; i < width + width2; ++i) {
    const int source = i < width ? from + i : from2 + i - width;
    matrix |= (std::uint64_t{1} << source) << (8 * (7 - i));
  }
  return matrix;
}

/// Of every byte the kWidth bits from kFrom on, and the kWidth2 bits from kFrom2 on above them.
template <int kFrom, int kWidth, int kFrom2 = 0, int kWidth2 = 0>
inline Bytes16 fields(Bytes16 v) {
  if constexpr (kFrom == 0 && kWidth2 == 0) {
    return masked(v, bits_below(kWidth));
  } else if constexpr (kPermutesBits) {
    return permuted<bit_matrix(kFrom, kWidth, kFrom2, kWidth2)>(v);
  } else if constexpr (kWidth2 == 0) {
    return masked(moved<kFrom, 0>(v), bits_below(kWidth));
  } else {
    return masked(merged(moved<kFrom, 0>(v), moved<kFrom2, kWidth>(v), bits_below(kWidth)),
                  bits_below(kWidth + kWidth2));
  }
}

/// Operand kOperand of planes of kLow low and kHigh high bits. Low bits that lie in one half of their byte
/// have their high bits in the other half of a byte of the high plane, so that both fit one byte before they
/// are taken out of it.
template <int kLow, int kHigh, int kOperand>
inline Bytes16 joined(const Bytes16* low, const Bytes16* high) {
  constexpr HighBits kAt = high_bits(kLow, kHigh, kOperand);
  constexpr int kFrom = kOperand % (8 / kLow) * kLow;
  constexpr unsigned char kHalf = kFrom < 4 ? 0x0F : 0xF0;
  return fields<kFrom, kLow, kAt.bit, kHigh>(merged(low[kOperand / (8 / kLow)], high[kAt.vector], kHalf));
}

template <int kLow, int kHigh>
inline void join(const std::byte* p, Bytes16* out) {
  Bytes16 low[kLow];
  Bytes16 high[kHigh];
  for (int i = 0; i < kLow; ++i) low[i] = load_bytes16(p + i * kVector);
  for (int i = 0; i < kHigh; ++i) high[i] = load_bytes16(p + (kLow + i) * kVector);
  out[0] = joined<kLow, kHigh, 0>(low, high);
  out[1] = joined<kLow, kHigh, 1>(low, high);
  out[2] = joined<kLow, kHigh, 2>(low, high);
  out[3] = joined<kLow, kHigh, 3>(low, high);
  out[4] = joined<kLow, kHigh, 4>(low, high);
  out[5] = joined<kLow, kHigh, 5>(low, high);
  out[6] = joined<kLow, kHigh, 6>(low, high);
  out[7] = joined<kLow, kHigh, 7>(low, high);
}

/// The operands of a tile.
template <Code kCode>
inline void decode(const std::byte* p, Bytes16* out) {
  if constexpr (bits_of(kCode) == 8) {
    for (int i = 0; i < kOperands; ++i) out[i] = load_bytes16(p + i * kVector);
  } else if constexpr (bits_of(kCode) == 4) {
    for (int i = 0; i < 4; ++i) {
      const Bytes16 v = load_bytes16(p + i * kVector);
      out[2 * i] = fields<0, 4>(v);
      out[2 * i + 1] = fields<4, 4>(v);
    }
  } else if constexpr (bits_of(kCode) == 2) {
    for (int i = 0; i < 2; ++i) {
      const Bytes16 v = load_bytes16(p + i * kVector);
      out[4 * i] = fields<0, 2>(v);
      out[4 * i + 1] = fields<2, 2>(v);
      out[4 * i + 2] = fields<4, 2>(v);
      out[4 * i + 3] = fields<6, 2>(v);
    }
  } else if constexpr (bits_of(kCode) == 3) {
    join<2, 1>(p, out);
  } else if constexpr (bits_of(kCode) == 5) {
    join<4, 1>(p, out);
  } else {
    static_assert(bits_of(kCode) == 6);
    join<4, 2>(p, out);
  }
}

// ---- reading ahead ----------------------------------------------------------------------------------------

// The instructions of a few tiles fill the processor's window, so by itself it does not look far enough
// ahead to keep as many lines on their way as its memory serves.
template <std::int64_t kBytes>
inline void prefetch(const PackedView& w, const std::byte* p) {
  for (std::int64_t i = 0; i < kBytes; i += kVector) __builtin_prefetch(p + w.near + i, 0, 3);
  if (w.far == 0) return;
  for (std::int64_t i = 0; i < kBytes; i += kVector) __builtin_prefetch(p + w.far + i, 0, 2);
}

// ---- dense numbers ----------------------------------------------------------------------------------------

/// A panel of dense numbers: out[row][16] = W x, for kRows rows of inputs.
template <Code kCode, int kRows>
inline void multiply_dense_panel(const PackedView& w, const std::byte* panel, const PlainInput<float>* x,
                                 float* out, std::int64_t pitch) {
  Vec even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = splat16(0);
  const std::int64_t columns = w.tiles * kTileColumns;
  for (std::int64_t k = 0; k < columns; k += 2) {
    Vec first, second;
    prefetch<bits_of(kCode) * 2 * kPanelRows / 8>(w, panel + k * bits_of(kCode) * kPanelRows / 8);
    if constexpr (kCode == Code::f32) {
      first = load16(reinterpret_cast<const float*>(panel) + k * kPanelRows);
      second = load16(reinterpret_cast<const float*>(panel) + (k + 1) * kPanelRows);
    } else {
      const Pairs16 pairs = load_pairs16(panel + k * 2 * kPanelRows);
      first = kCode == Code::f16 ? first_half16(pairs) : first_bf16(pairs);
      second = kCode == Code::f16 ? second_half16(pairs) : second_bf16(pairs);
    }
    for (int r = 0; r < kRows; ++r) {
      even[r] = fma(first, splat16(x[r].x[k]), even[r]);
      odd[r] = fma(second, splat16(x[r].x[k + 1]), odd[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) store(out + r * pitch, even[r] + odd[r]);
}

// ---- inputs -----------------------------------------------------------------------------------------------

// Each kind of inputs multiplies half a tile (four operands from `first` on) or all of it, as floats; before
// that it prepares the operands. What it multiplies are codes u, or where there are levels, the weights'
// values. centered() makes of such a sum, of inputs with the sum `ones`, that of u - zero.

/// Where levels are multiplied as they are.
template <Code kCode>
inline Vec centered_numbers(const PackedView& w, Vec sum, float ones) {
  if constexpr (has_levels(kCode)) return sum;
  return sum - splat16(w.zero * ones);
}

struct Int8Dots {
  using Input = Int8Input;
  template <Code kCode>
  static constexpr bool serves() {
    return !is_dense(kCode);
  }
  template <Code kCode>
  static constexpr bool is_signed() {
    return kSignedDots && has_levels(kCode) && is_wide(kCode);
  }
  template <Code kCode>
  static void prepare(const PackedView& w, Bytes16* u) {
    if constexpr (has_levels(kCode))
      for (int i = 0; i < kOperands; ++i) u[i] = lookup(u[i], is_signed<kCode>() ? w.signed_bytes : w.bytes);
  }
  template <Code kCode>
  static Vec centered(const PackedView& w, Vec sum, float ones) {
    if constexpr (!is_signed<kCode>()) sum = sum - splat16(w.zero * ones);
    if constexpr (kCode == Code::nf4) sum = sum * splat16(1.0f / 127.0f);
    return sum;
  }
  template <Code kCode>
  static Vec some(const PackedView&, const Bytes16* u, int first, int count, const Int8Input& x,
                  std::int64_t tile) {
    const std::int8_t* q = x.q + tile * kTileColumns;
    Ints16 sum = Ints16{};
    for (int i = first; i < first + count; ++i) {
      if constexpr (is_signed<kCode>()) {
        sum = dot_signed(sum, u[i], q + 4 * i);
      } else {
        sum = dot<is_wide(kCode)>(sum, u[i], q + 4 * i);
      }
    }
    return to_floats(sum) * splat16(x.scales[tile]);
  }
};

struct FloatDots {
  using Input = PlainInput<float>;
  template <Code kCode>
  static constexpr bool serves() {
    return true;
  }
  template <Code kCode>
  static void prepare(const PackedView&, Bytes16*) {}
  template <Code kCode>
  static Vec centered(const PackedView& w, Vec sum, float ones) {
    return centered_numbers<kCode>(w, sum, ones);
  }
  template <Code kCode>
  static Vec value(const PackedView& w, Vec u) {
    if constexpr (has_levels(kCode)) return lookup(u, w.levels);
    return u;
  }
  template <Code kCode, int kRows>
  static void dense(const PackedView& w, const std::byte* panel, const PlainInput<float>* x, float* out,
                    std::int64_t pitch) {
    multiply_dense_panel<kCode, kRows>(w, panel, x, out, pitch);
  }
  template <Code kCode>
  static Vec some(const PackedView& w, const Bytes16* u, int first, int count, const PlainInput<float>& input,
                  std::int64_t tile) {
    const float* x = input.x + tile * kTileColumns;
    // One sum for each byte of a row hides the latency of the additions.
    Vec a = splat16(0), b = splat16(0), c = splat16(0), d = splat16(0);
    for (int i = first; i < first + count; ++i) {
      a = fma(value<kCode>(w, column<0>(u[i])), splat16(x[4 * i + kColumn[0]]), a);
      b = fma(value<kCode>(w, column<1>(u[i])), splat16(x[4 * i + kColumn[1]]), b);
      c = fma(value<kCode>(w, column<2>(u[i])), splat16(x[4 * i + kColumn[2]]), c);
      d = fma(value<kCode>(w, column<3>(u[i])), splat16(x[4 * i + kColumn[3]]), d);
    }
    return (a + b) + (c + d);
  }
};

// ---- products ---------------------------------------------------------------------------------------------

constexpr bool is_super(Factors factors) {
  return factors == Factors::super_pair || factors == Factors::super_nibbles ||
         factors == Factors::super_scale || factors == Factors::super_scale32;
}
/// Whether there are minima beside the scales of super-blocks.
constexpr bool has_minima(Factors factors) {
  return factors == Factors::super_pair || factors == Factors::super_nibbles;
}
/// Of a tile, behind the first level.
constexpr std::int64_t second_level_bytes(Factors factors) {
  return factors == Factors::super_scale32 ? 16 : 32;
}

/// The sum of a panel: out[row][16] = W x, for kRows rows of inputs.
template <class Dots, Code kCode, Factors kFactors, int kRows>
inline void multiply_panel(const PackedView& w, const std::byte* panel, const typename Dots::Input* x,
                           float* out, std::int64_t pitch) {
  constexpr std::int64_t kCodeBytes = bits_of(kCode) * kVector;
  Vec total[kRows];
  for (int r = 0; r < kRows; ++r) total[r] = splat16(0);
  const auto ones = [&](int r, std::int64_t tile) { return x[r].sums[2 * tile] + x[r].sums[2 * tile + 1]; };

  if constexpr (is_super(kFactors)) {
    for (std::int64_t first = 0; first < w.tiles; first += kSuper, panel += w.unit_bytes) {
      const std::byte* factors = panel;
      const std::byte* codes = panel + w.factor_bytes;
      const Vec d = load_half16(factors) * splat16(w.step);
      const Vec m = load_half16(factors + 32);
      factors += kVector;
      Vec sum[kRows], least[kRows];
      for (int r = 0; r < kRows; ++r) sum[r] = least[r] = splat16(0);
      for (std::int64_t t = first; t < first + kSuper;
           ++t, factors += second_level_bytes(kFactors), codes += kCodeBytes) {
        Bytes16 u[kOperands];
        prefetch<kCodeBytes>(w, codes);
        decode<kCode>(codes, u);
        Dots::template prepare<kCode>(w, u);
        if constexpr (kFactors == Factors::super_pair) {
          const Vec s = load_u8_16(factors);
          const Vec c = load_u8_16(factors + 16);
          for (int r = 0; r < kRows; ++r) {
            sum[r] = fma(Dots::template some<kCode>(w, u, 0, 8, x[r], t), s, sum[r]);
            least[r] = fma(splat16(ones(r, t)), c, least[r]);
          }
        } else if constexpr (kFactors == Factors::super_scale32) {
          const Vec s = load_i8_16(factors);
          for (int r = 0; r < kRows; ++r) {
            const Vec product = Dots::template some<kCode>(w, u, 0, 8, x[r], t);
            sum[r] = fma(Dots::template centered<kCode>(w, product, ones(r, t)), s, sum[r]);
          }
        } else {
          for (int half = 0; half < 2; ++half) {
            const std::byte* at = factors + 16 * half;
            const Vec s = kFactors == Factors::super_nibbles ? low_nibbles16(at) : load_i8_16(at);
            for (int r = 0; r < kRows; ++r) {
              const Vec product = Dots::template some<kCode>(w, u, 4 * half, 4, x[r], t);
              const float one = x[r].sums[2 * t + half];
              if constexpr (kFactors == Factors::super_nibbles) {
                sum[r] = fma(product, s, sum[r]);
                least[r] = fma(splat16(one), high_nibbles16(at), least[r]);
              } else {
                sum[r] = fma(Dots::template centered<kCode>(w, product, one), s, sum[r]);
              }
            }
          }
        }
      }
      for (int r = 0; r < kRows; ++r) {
        total[r] = fma(d, sum[r], total[r]);
        if constexpr (has_minima(kFactors)) total[r] = total[r] - m * least[r];
      }
    }
  } else {
    const std::byte* codes = panel;
    const std::byte* factors = panel;
    for (std::int64_t first = 0; first < w.tiles; first += w.group) {
      if (first % w.unit == 0) {
        factors = panel + first / w.unit * w.unit_bytes;
        codes = factors + w.factor_bytes;
      }
      const std::int64_t end = smaller(first + w.group, w.tiles);
      Vec sum[kRows];
      float all[kRows];
      for (int r = 0; r < kRows; ++r) {
        sum[r] = splat16(0);
        all[r] = 0;
      }
      for (std::int64_t t = first; t < end; ++t, codes += kCodeBytes) {
        Bytes16 u[kOperands];
        prefetch<kCodeBytes>(w, codes);
        decode<kCode>(codes, u);
        Dots::template prepare<kCode>(w, u);
        for (int r = 0; r < kRows; ++r) {
          sum[r] = sum[r] + Dots::template some<kCode>(w, u, 0, 8, x[r], t);
          all[r] += ones(r, t);
        }
      }
      Vec s, c;
      if constexpr (kFactors == Factors::half_pair || kFactors == Factors::half_scale) {
        s = load_half16(factors);
        factors += 32;
      } else {
        s = load16(reinterpret_cast<const float*>(factors));
        factors += 64;
      }
      if constexpr (kFactors == Factors::half_pair) {
        c = load_half16(factors);
        factors += 32;
      } else if constexpr (kFactors == Factors::float_pair) {
        c = load16(reinterpret_cast<const float*>(factors));
        factors += 64;
      }
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kFactors == Factors::half_pair || kFactors == Factors::float_pair) {
          total[r] = fma(s, sum[r], fma(c, splat16(all[r]), total[r]));
        } else {
          total[r] = fma(s, Dots::template centered<kCode>(w, sum[r], all[r]), total[r]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) store(out + r * pitch, total[r]);
}

template <class Dots, Code kCode, Factors kFactors, int kRows>
void multiply_panels(const PackedView& w, std::int64_t first, std::int64_t panels,
                     const typename Dots::Input* x, float* out, std::int64_t pitch) {
  for (std::int64_t p = 0; p < panels; ++p) {
    const std::byte* panel = w.data + (first + p) * w.panel_bytes;
    float* to = out + p * kPanelRows;
    if constexpr (is_dense(kCode)) {
      Dots::template dense<kCode, kRows>(w, panel, x, to, pitch);
    } else {
      multiply_panel<Dots, kCode, kFactors, kRows>(w, panel, x, to, pitch);
    }
  }
}

template <class Dots, Code kCode, Factors kFactors>
void multiply_rows(const PackedView& w, std::int64_t first, std::int64_t panels,
                   const typename Dots::Input* x, int rows, float* out, std::int64_t pitch) {
  switch (rows) {
    case 1:
      return multiply_panels<Dots, kCode, kFactors, 1>(w, first, panels, x, out, pitch);
    case 2:
      return multiply_panels<Dots, kCode, kFactors, 2>(w, first, panels, x, out, pitch);
    case 3:
      multiply_panels<Dots, kCode, kFactors, 2>(w, first, panels, x, out, pitch);
      return multiply_panels<Dots, kCode, kFactors, 1>(w, first, panels, x + 2, out + 2 * pitch, pitch);
    default:
      return multiply_panels<Dots, kCode, kFactors, 4>(w, first, panels, x, out, pitch);
  }
}

/// Calls f.operator()<code, factors>() for the pair that `w` has; only pairs that occur are made.
template <class Function>
inline void with_packing(const PackedView& w, Function f) {
  const auto affine = [&]<Code kCode>() {
    switch (w.factors) {
      case Factors::half_pair:
        return f.template operator()<kCode, Factors::half_pair>();
      case Factors::half_scale:
        return f.template operator()<kCode, Factors::half_scale>();
      default:
        return f.template operator()<kCode, Factors::float_pair>();
    }
  };
  switch (w.code) {
    case Code::b2:
      if (w.factors == Factors::super_nibbles)
        return f.template operator()<Code::b2, Factors::super_nibbles>();
      return affine.template operator()<Code::b2>();
    case Code::b3:
      if (w.factors == Factors::super_scale) return f.template operator()<Code::b3, Factors::super_scale>();
      return affine.template operator()<Code::b3>();
    case Code::b4:
      if (w.factors == Factors::super_pair) return f.template operator()<Code::b4, Factors::super_pair>();
      return affine.template operator()<Code::b4>();
    case Code::b5:
      if (w.factors == Factors::super_pair) return f.template operator()<Code::b5, Factors::super_pair>();
      return affine.template operator()<Code::b5>();
    case Code::b6:
      if (w.factors == Factors::super_scale) return f.template operator()<Code::b6, Factors::super_scale>();
      return affine.template operator()<Code::b6>();
    case Code::b8:
      return affine.template operator()<Code::b8>();
    case Code::level3:
      if (w.factors == Factors::super_scale)
        return f.template operator()<Code::level3, Factors::super_scale>();
      return f.template operator()<Code::level3, Factors::super_scale32>();
    case Code::level4:
      return f.template operator()<Code::level4, Factors::super_scale32>();
    case Code::wide4:
      if (w.factors == Factors::half_scale) return f.template operator()<Code::wide4, Factors::half_scale>();
      return f.template operator()<Code::wide4, Factors::super_scale32>();
    case Code::nf4:
      return f.template operator()<Code::nf4, Factors::float_scale>();
    case Code::bf16:
      return f.template operator()<Code::bf16, Factors::none>();
    case Code::f16:
      return f.template operator()<Code::f16, Factors::none>();
    case Code::f32:
      return f.template operator()<Code::f32, Factors::none>();
  }
}

template <class Dots>
void multiply_packed(const PackedView& w, std::int64_t first, std::int64_t panels,
                     const typename Dots::Input* x, int rows, float* out, std::int64_t pitch) {
  with_packing(w, [&]<Code kCode, Factors kFactors>() {
    if constexpr (Dots::template serves<kCode>())
      multiply_rows<Dots, kCode, kFactors>(w, first, panels, x, rows, out, pitch);
  });
}

// ---- weights ----------------------------------------------------------------------------------------------

/// Scale and bias of 16 columns of a panel, so that w = scale * (u - zero) + bias or w = scale * level, each
/// step rounded as dequantize_row() does it.
struct SixteenColumns {
  Vec scale, bias;
};

template <Factors kFactors>
inline SixteenColumns factors_at(const PackedView& w, const std::byte* panel, std::int64_t tile, int half) {
  const std::byte* unit = panel + tile / w.unit * w.unit_bytes;
  if constexpr (is_super(kFactors)) {
    const std::byte* at = unit + kVector + tile % kSuper * second_level_bytes(kFactors);
    const Vec d = load_half16(unit) * splat16(w.step);
    if constexpr (kFactors == Factors::super_scale) return {d * load_i8_16(at + 16 * half), splat16(0)};
    if constexpr (kFactors == Factors::super_scale32) return {d * load_i8_16(at), splat16(0)};
    const Vec m = load_half16(unit + 32);
    if constexpr (kFactors == Factors::super_pair)
      return {d * load_u8_16(at), splat16(0) - m * load_u8_16(at + 16)};
    else
      return {d * low_nibbles16(at + 16 * half), splat16(0) - m * high_nibbles16(at + 16 * half)};
  } else if constexpr (kFactors == Factors::half_pair) {
    return {load_half16(unit), load_half16(unit + 32)};
  } else if constexpr (kFactors == Factors::half_scale) {
    return {load_half16(unit + tile % w.unit / w.group * 32), splat16(0)};
  } else if constexpr (kFactors == Factors::float_scale) {
    return {load16(reinterpret_cast<const float*>(unit)), splat16(0)};
  } else {
    return {load16(reinterpret_cast<const float*>(unit)), load16(reinterpret_cast<const float*>(unit + 64))};
  }
}

/// Calls put(column, weights of 16 rows, weights of the next column) for the 16 pairs of columns of a
/// tile.
template <Code kCode, Factors kFactors, class Put>
inline void tile_weights(const PackedView& w, const std::byte* panel, std::int64_t tile, Put put) {
  if constexpr (is_dense(kCode)) {
    for (std::int64_t k = 0; k < kTileColumns; k += 2) {
      const std::int64_t at = tile * kTileColumns + k;
      if constexpr (kCode == Code::f32) {
        const float* p = reinterpret_cast<const float*>(panel) + at * kPanelRows;
        put(k, load16(p), load16(p + kPanelRows));
      } else {
        const Pairs16 pairs = load_pairs16(panel + at * 2 * kPanelRows);
        if constexpr (kCode == Code::f16)
          put(k, first_half16(pairs), second_half16(pairs));
        else
          put(k, first_bf16(pairs), second_bf16(pairs));
      }
    }
  } else {
    Bytes16 u[kOperands];
    decode<kCode>(
        panel + tile / w.unit * w.unit_bytes + w.factor_bytes + tile % w.unit * bits_of(kCode) * kVector, u);
    constexpr bool kBiased =
        kFactors == Factors::half_pair || kFactors == Factors::float_pair || has_minima(kFactors);
    constexpr bool kShifted = !kBiased && !has_levels(kCode);
    for (int half = 0; half < 2; ++half) {
      const SixteenColumns f = factors_at<kFactors>(w, panel, tile, half);
      const auto weights = [&](Vec v) {
        if constexpr (has_levels(kCode)) v = lookup(v, w.levels);
        if constexpr (kShifted) v = v - splat16(w.zero);
        v = f.scale * v;
        if constexpr (kBiased) v = v + f.bias;
        return v;
      };
      for (int i = 4 * half; i < 4 * half + 4; ++i) {
        put(4 * i, weights(column<0>(u[i])), weights(column<2>(u[i])));
        put(4 * i + 2, weights(column<1>(u[i])), weights(column<3>(u[i])));
      }
    }
  }
}

void dequantize_panel(const PackedView& w, std::int64_t index, float* out, std::int64_t stride,
                      std::int64_t jump) {
  const std::byte* panel = w.data + index * w.panel_bytes;
  with_packing(w, [&]<Code kCode, Factors kFactors>() {
    for (std::int64_t g = 0; g < w.tiles; ++g)
      tile_weights<kCode, kFactors>(w, panel, g, [&](std::int64_t k, Vec a, Vec b) {
        float* to = out + (2 * g + k / 16) * jump + k % 16 * stride;
        store(to, a);
        store(to + stride, b);
      });
  });
}

// ---- inputs of a product ----------------------------------------------------------------------------------

void sum_columns(const float* x, std::int64_t n, float* sums) {
  for (std::int64_t i = 0; i < n / 16; ++i) sums[i] = sum_of(load16(x + 16 * i));
}

/// q = x / scale, to the nearest, ties to even, with scale = largest |x| of 32 / 127.
void quantize_row(const float* x, std::int64_t n, std::int8_t* q, float* scales, float* sums) {
  for (std::int64_t g = 0; g < n / kTileColumns; ++g, x += kTileColumns, q += kTileColumns) {
    const Vec first = load16(x);
    const Vec second = load16(x + 16);
    const float largest = largest_of(vmax(magnitude(first), magnitude(second)));
    // A NaN may not survive the comparisons. The sum is 0 where all are finite.
    scales[g] = largest / 127.0f + sum_of(first * splat16(0) + second * splat16(0));
    // Below 1e-30 the inverse would leave the range of fp32; such inputs are nothing beside any others. An
    // infinite scale spoils the result, as it must.
    const Vec inverse = splat16(largest > 1e-30f ? 127.0f / largest : 0.0f);
    sums[2 * g] = scales[g] * store_rounded(first * inverse, q);
    sums[2 * g + 1] = scales[g] * store_rounded(second * inverse, q + 16);
  }
}

#ifdef KNAPSAQ_SIMD_BF16
// ---- bfloat16 ---------------------------------------------------------------------------------------------

static_assert(kLanes == 16, "a table of 32 numbers is a register");

/// Codes become bfloat16 by looking them up, two columns of 16 rows at a time. Codes up to 31 and levels are
/// one table; larger codes and the levels of NF4, which have more than eight significant bits, are a sum of
/// two.
struct Bf16Dots {
  using Input = PlainInput<Bf16>;
  template <Code kCode>
  static constexpr bool serves() {
    return kCode != Code::f16 && kCode != Code::f32;
  }
  template <Code kCode>
  static void prepare(const PackedView&, Bytes*) {}
  template <Code kCode>
  static Vec centered(const PackedView& w, Vec sum, float ones) {
    return centered_numbers<kCode>(w, sum, ones);
  }

  static Vec add(Vec sum, Bf16Pairs table, Bytes index, Bf16Pairs x) {
    return dot(sum, lookup(index, table), x);
  }
  /// factor * (0 .. 31)
  static Bf16Pairs integers(float factor) {
    const Vec first = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return rounded_behind(first * splat(factor), (first + splat(16)) * splat(factor));
  }

  template <Code kCode>
  static Vec some(const PackedView& w, const Bytes16* u, int first, int count, const PlainInput<Bf16>& input,
                  std::int64_t tile) {
    const Bf16* x = input.x + tile * kTileColumns;
    Vec a = splat(0), b = splat(0);
    if constexpr (kCode == Code::b8 || kCode == Code::b6 || kCode == Code::nf4) {
      Vec c = splat(0), d = splat(0);
      Bf16Pairs low, high;
      if constexpr (kCode == Code::nf4) {
        const Vec exact = load(w.levels);
        const Vec rest = exact - rounded_to_bf16(exact);
        low = rounded_behind(exact, exact);
        high = rounded_behind(rest, rest);
      } else {
        low = integers(1);
        high = integers(16);
      }
      for (int i = first; i < first + count; ++i) {
        Bytes l = u[i];
        Bytes h = u[i];
        if constexpr (kCode != Code::nf4) {
          l = masked(u[i], 15);
          h = masked(shifted_right<4>(u[i]), 15);
        }
        const Bf16Pairs even = splat_pair(x + 4 * i);
        const Bf16Pairs odd = splat_pair(x + 4 * i + 2);
        a = add(a, low, l, even);
        b = add(b, low, shifted_right<8>(l), odd);
        c = add(c, high, h, even);
        d = add(d, high, shifted_right<8>(h), odd);
      }
      return (a + c) + (b + d);
    } else {
      Bf16Pairs table;
      if constexpr (has_levels(kCode)) {
        const Vec levels = load(w.levels);
        table = rounded_behind(levels, levels);
      } else {
        table = integers(1);
      }
      for (int i = first; i < first + count; ++i) {
        a = add(a, table, u[i], splat_pair(x + 4 * i));
        b = add(b, table, shifted_right<8>(u[i]), splat_pair(x + 4 * i + 2));
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
    const std::int64_t pairs = w.tiles * kTileColumns / 2;
    for (std::int64_t p = 0; p < pairs; p += kSums) {
      prefetch<kSums * kVector>(w, panel + p * kVector);
      for (int s = 0; s < kSums; ++s) {
        const Bf16Pairs weights = load_bf16_pairs(panel + (p + s) * kVector);
        for (int r = 0; r < kRows; ++r) sum[r][s] = dot(sum[r][s], weights, splat_pair(x[r].x + 2 * (p + s)));
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
  with_packing(w, [&]<Code kCode, Factors kFactors>() {
    for (std::int64_t g = 0; g < w.tiles; ++g)
      tile_weights<kCode, kFactors>(w, panel, g, [&](std::int64_t k, Vec a, Vec b) {
        store(out + g * jump + k / 2 * stride, rounded_in_turns(a, b));
      });
  });
}
#endif

}  // namespace

extern const PackedKernels kPackedKernels;
constexpr PackedKernels kPackedKernels = {
    .quantize = quantize_row,
    .sum = sum_columns,
    .multiply_int8 = multiply_packed<Int8Dots>,
    .multiply_float = multiply_packed<FloatDots>,
#ifdef KNAPSAQ_SIMD_BF16
    .multiply_bf16 = multiply_packed<Bf16Dots>,
#else
    .multiply_bf16 = nullptr,
#endif
    .dequantize_float = dequantize_panel,
#ifdef KNAPSAQ_SIMD_BF16
    .dequantize_bf16 = dequantize_panel_bf16,
#else
    .dequantize_bf16 = nullptr,
#endif
};

}  // namespace knapsaq::cpu::KNAPSAQ_SET
