#pragma once

// For kernel sources alone: it is compiled once for every instruction set, in the set's namespace.

#include <cstdint>

#include "knapsaq/base/simd/simd.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

/// By lane, of `count` ascending levels the nearest to x; of two equally near ones the lower. thresholds[i]
/// is the middle of levels i and i + 1.
inline simd::KNAPSAQ_SET::Floats nearest_level(simd::KNAPSAQ_SET::Floats x, const float* levels,
                                               const float* thresholds, std::int64_t count) {
  using namespace simd::KNAPSAQ_SET;
  Floats level = splat(levels[0]);
  for (std::int64_t i = 1; i < count; ++i)
    level = if_less(splat(thresholds[i - 1]), x, splat(levels[i]), level);
  return level;
}

}  // namespace
}  // namespace knapsaq::KNAPSAQ_SET
