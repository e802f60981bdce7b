#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "knapsaq/compute/ggml_grid.h"
#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {

/// How the blocks of a type make weights of codes. With a = step * (scale + scale_offset):
///   w = (d * a) * q, with a minimum w = (d * a) * q - (m * min), or w = d * q + m (see has_offset).
/// Every sub-block has its own integers `scale` and `min`; types without sub-blocks have one, with a = 1.
struct GgmlRule {
  int sub_block;      ///< weights that share a scale; the whole block for types without sub-blocks
  int lowest;         ///< code q, as it is multiplied: -8 for Q4_0's stored 0
  int highest;        ///< code
  int lowest_scale;   ///< of the integers `scale`; lowest_scale == highest_scale == 1 without sub-blocks
  int highest_scale;  ///< also the largest `min`
  bool has_min;       ///< Q2_K, Q4_K, Q5_K
  bool has_offset;    ///< Q4_1, Q5_1
  float step = 1;
  float scale_offset = 0;                    ///< 1/2 for IQ1, IQ2 and IQ3: no sub-block has a scale of 0
  std::span<const std::int8_t> levels = {};  ///< what a code can be, ascending; empty: lowest .. highest
  const GgmlGrid* grid = nullptr;            ///< IQ1, IQ2, IQ3: the codes are points of it

  float factor(int scale) const { return step * (static_cast<float>(scale) + scale_offset); }  ///< a
};

const GgmlRule& rule(GgmlType type);

/// A block's numbers, out of their bit fields. Entries beyond the type's own sizes are not looked at.
struct GgmlBlock {
  std::uint16_t d = 0;                   ///< fp16
  std::uint16_t m = 0;                   ///< fp16: `dmin` or, with has_offset, `m`
  std::array<std::int8_t, 16> scales{};  ///< of each sub-block
  std::array<std::int8_t, 16> mins{};
  std::array<std::int8_t, 256> codes{};  ///< within lowest .. highest, among levels, on the grid
};

/// The layouts are those of ggml (src/ggml-common.h). `bytes` are info(type).bytes.
void unpack_block(GgmlType type, std::span<const std::byte> bytes, GgmlBlock& block);
/// The inverse; numbers must be within the rule's bounds, and codes among its levels or points of its grid:
/// else throws std::logic_error.
void pack_block(GgmlType type, const GgmlBlock& block, std::span<std::byte> bytes);

}  // namespace knapsaq
