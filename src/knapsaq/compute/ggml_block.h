#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {

/// How the blocks of a type make weights of codes: w = (d * scale) * q, with a minimum
/// w = (d * scale) * q - (m * min), or w = d * q + m (see has_offset). Every sub-block has its own integers
/// `scale` and `min`; types without sub-blocks have one, whose scale is 1.
struct GgmlRule {
  int sub_block;      ///< weights that share a scale; the whole block for types without sub-blocks
  int lowest;         ///< code q, as it is multiplied: -8 for Q4_0's stored 0
  int highest;        ///< code
  int lowest_scale;   ///< of the integers `scale`; lowest_scale == highest_scale == 1 without sub-blocks
  int highest_scale;  ///< also the largest `min`
  bool has_min;       ///< Q2_K, Q4_K, Q5_K
  bool has_offset;    ///< Q4_1, Q5_1
};

const GgmlRule& rule(GgmlType type);

/// A block's numbers, out of their bit fields. Entries beyond the type's own sizes are not looked at.
struct GgmlBlock {
  std::uint16_t d = 0;                   ///< fp16
  std::uint16_t m = 0;                   ///< fp16: `dmin` or, with has_offset, `m`
  std::array<std::int8_t, 16> scales{};  ///< of each sub-block
  std::array<std::int8_t, 16> mins{};
  std::array<std::int8_t, 256> codes{};  ///< within lowest .. highest
};

/// The layouts are those of ggml (src/ggml-common.h). `bytes` are info(type).bytes.
void unpack_block(GgmlType type, std::span<const std::byte> bytes, GgmlBlock& block);
/// The inverse; numbers must be within the rule's bounds.
void pack_block(GgmlType type, const GgmlBlock& block, std::span<std::byte> bytes);

}  // namespace knapsaq
