#pragma once

#include <cstddef>
#include <cstdint>

#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

// How a matrix lies in memory that is multiplied from its codes.
//
// 16 rows of W are a panel. One vector holds the same columns of 16 rows, so that sums over columns need no
// work across lanes and every row's scale and bias are lanes, too. 32 columns of a panel are a tile;
// columns beyond the matrix have inputs of 0. Tiles that share factors are a unit: its factors, then its
// codes. So a panel, and the panels one after another, are read front to back, and what is ahead is a matter
// of an offset.
//
// A tile of b-bit codes takes b * 64 bytes: 512 codes without a gap, for every b, in planes of whole
// 64-byte vectors. What a product reads is an operand: 64 bytes, [16 rows][4 columns], of which a tile has
// eight.
//   8 bits:   vector i is operand i
//   4 bits:   vector j of 4 holds operand 2j in the low, 2j + 1 in the high half of its bytes
//   2 bits:   vector j of 2 holds operands 4j .. 4j + 3 from the low bits of its bytes upwards
//   3, 5, 6:  the planes of the 2, 4, 4 low bits, then one or two of the 1, 1, 2 high bits; see high_bits()

inline constexpr std::int64_t kPanelRows = 16;
inline constexpr std::int64_t kTileColumns = 32;

/// Where the high bits of an operand are: which of the vectors of high bits, from which bit of its bytes on.
struct HighBits {
  int vector;
  int bit;
};
/// Operands whose low bits are in the lower half of their bytes have their high bits in the upper half of
/// theirs, one after another, and the other way round.
constexpr HighBits high_bits(int low, int high, int operand) {
  const int fields = 4 / low;   // of low bits in half a byte
  const int places = 4 / high;  // of high bits
  const int field = operand % (2 * fields);
  const int number = operand / (2 * fields) * fields + field % fields;  // among those of this half
  return {number / places, (field < fields ? 4 : 0) + number % places * high};
}

/// What an element of a packed matrix is. The dense ones are rows of numbers in panels: [columns / 2][16
/// rows][2] for 16 bits, [columns][16 rows] for f32.
enum class Code : std::uint8_t {
  b2,  ///< unsigned codes
  b3,
  b4,
  b5,
  b6,
  b8,
  level3,  ///< an index of so many bits into PackedView::levels, which are integers, with bytes up to 128
  level4,
  wide4,  ///< as level4, with bytes up to 255
  nf4,    ///< as wide4; levels are no integers, and their bytes are rounded
  bf16,
  f16,
  f32
};

/// What makes a weight w of a code u, and how that lies in a panel. `x[16]`: one for each row.
enum class Factors : std::uint8_t {
  none,         ///< dense
  half_pair,    ///< w = s u + c; per group {half s[16], half c[16]}
  half_scale,   ///< w = s (u - zero); per two groups, which are a unit, {half s[2][16]}
  float_pair,   ///< as half_pair, fp32
  float_scale,  ///< as half_scale, fp32
  /// Q4_K, Q5_K: w = (d s) u - (m t); per 8 tiles {half d[16], half m[16], 8 x {u8 s[16], u8 t[16]}}
  super_pair,
  /// Q2_K: the same with s and t for every 16 columns, in half a byte each (s the low one)
  super_nibbles,
  /// Q3_K, Q6_K: w = (d step s) (u - zero); per 8 tiles {half d[16], 32 bytes unused, 8 x {i8 s[16], i8
  /// s'[16]}}, s of the first and s' of the last 16 columns
  super_scale,
  /// IQ3_S, IQ4_XS: the same with one scale for a tile: {half d[16], 32 bytes unused, 8 x {i8 s[16]}}
  super_scale32
};

struct PackedView {
  Code code = Code::b4;
  Factors factors = Factors::half_pair;
  std::int64_t tiles = 0;           ///< of a row
  std::int64_t group = 0;           ///< tiles that share factors; not for super_*
  float zero = 0;                   ///< half_scale, float_scale, super_scale, super_scale32
  float step = 1;                   ///< super_scale, super_scale32: what d is multiplied by in fp32
  std::int64_t unit = 0;            ///< tiles of a unit; the last of a panel may have fewer
  std::int64_t factor_bytes = 0;    ///< of a unit, a multiple of 64
  std::int64_t unit_bytes = 0;      ///< factors and codes of a whole unit
  std::int64_t panel_bytes = 0;     ///< all of it, a multiple of 64
  std::int64_t near = 0;            ///< bytes ahead that are fetched into the L1 cache
  std::int64_t far = 0;             ///< the same into L2; 0: none are
  const std::byte* data = nullptr;  ///< aligned to 64
  /// What indices stand for, [16]: w = s level. For products of int8, levels as integers (nf4: 127 level,
  /// rounded), and these + zero.
  const float* levels = nullptr;
  const std::uint8_t* signed_bytes = nullptr;  ///< as int8
  const std::uint8_t* bytes = nullptr;
};

/// A row of inputs for the kernels; every pointer covers all tiles, inputs beyond the matrix are 0.
struct Int8Input {
  const std::int8_t* q;  ///< x ~ scale * q, |q| <= 127
  const float* scales;   ///< [tiles]
  const float* sums;     ///< [tiles][2]: scale * (sum of q) of 16 columns
};
template <class T>
struct PlainInput {
  const T* x;
  const float* sums;  ///< [tiles][2]: sum of 16 columns
};

/// Rows of inputs that the kernels take at once: what one decoding of a tile serves. Four rows' sums and
/// eight operands fit 32 registers.
inline constexpr int kInputRows = 4;

/// The code of one instruction set. `out` of a product is [rows][pitch] floats, of which panels * 16 are
/// written from the panel `first` on.
struct PackedKernels {
  void (*quantize)(const float* x, std::int64_t n, std::int8_t* q, float* scales, float* sums);
  void (*sum)(const float* x, std::int64_t n, float* sums);
  void (*multiply_int8)(const PackedView& w, std::int64_t first, std::int64_t panels, const Int8Input* x,
                        int rows, float* out, std::int64_t pitch);
  void (*multiply_float)(const PackedView& w, std::int64_t first, std::int64_t panels,
                         const PlainInput<float>* x, int rows, float* out, std::int64_t pitch);
  /// Null where there is no bf16.
  void (*multiply_bf16)(const PackedView& w, std::int64_t first, std::int64_t panels,
                        const PlainInput<Bf16>* x, int rows, float* out, std::int64_t pitch);
  /// Panel `index` as weights, to the bit what dequantize_row() gives: [columns][16 rows], `stride` floats
  /// from column to column, `jump` floats from 16 columns to the next.
  void (*dequantize_float)(const PackedView& w, std::int64_t index, float* out, std::int64_t stride,
                           std::int64_t jump);
  /// The same, rounded to bf16, in pairs of columns: [columns / 2][16 rows][2], `stride` pairs of columns
  /// apart (in elements), `jump` from tile to tile. Null where there is no bf16.
  void (*dequantize_bf16)(const PackedView& w, std::int64_t index, Bf16* out, std::int64_t stride,
                          std::int64_t jump);
};

}  // namespace knapsaq::cpu
