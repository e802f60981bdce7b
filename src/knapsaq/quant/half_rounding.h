#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "knapsaq/base/float16.h"

// Directed rounding to fp16 (IEEE), for metadata whose error must have one sign.

namespace knapsaq {

inline constexpr float kSmallestNormalHalf = 0x1p-14f;

/// The largest fp16 number that is not above `value`.
inline std::uint16_t half_below(float value) {
  const std::uint16_t nearest = float_to_half(value);
  if (half_to_float(nearest) <= value) return nearest;
  // One step down: towards zero for positive numbers, away from zero for negative ones. Zero cannot be too
  // large for a positive value, so it occurs here only for a negative one; its lower neighbour is the
  // smallest negative number.
  if ((nearest & 0x7FFFu) == 0) return 0x8001u;
  return static_cast<std::uint16_t>((nearest & 0x8000u) != 0 ? nearest + 1 : nearest - 1);
}

/// The smallest fp16 number that is not below `value`.
inline std::uint16_t half_above(float value) { return half_below(-value) ^ 0x8000u; }

/// Distance of neighbouring fp16 numbers around `value`.
inline float half_spacing(float value) {
  const float size = std::max(std::fabs(value), kSmallestNormalHalf);
  return std::ldexp(1.0f, std::ilogb(size) - 10);
}

}  // namespace knapsaq
