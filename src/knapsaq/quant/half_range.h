#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "knapsaq/base/float16.h"

namespace knapsaq {

/// Calls fn(bits) for the fp16 numbers from `low` to `high`, from the one that is nearest to `centre`
/// outwards, and for that one in any case, until it returns true. Whether it did.
template <class Function>
bool for_halves(double low, double high, double centre, Function&& fn) {
  // A range is some 2^-8 wide (bf16) where a group has hardly a point but 0, which is 8 numbers, and narrower
  // with every further point.
  constexpr int kMostNeighbours = 12;
  // Neighbours by their order as numbers.
  const auto order_of = [](std::uint16_t half) {
    return (half & 0x8000u) != 0 ? -static_cast<int>(half & 0x7FFFu) : static_cast<int>(half);
  };
  const auto half_of = [](int order) {
    return static_cast<std::uint16_t>(order < 0 ? 0x8000u | static_cast<unsigned>(-order)
                                                : static_cast<unsigned>(order));
  };
  constexpr int kLargest = 0x7BFF;
  const int middle = std::clamp(order_of(float_to_half(static_cast<float>(centre))), -kLargest, kLargest);
  if (fn(half_of(middle))) return true;
  const auto is_inside = [&](int order) {
    const double value = half_to_float(half_of(order));
    return std::abs(order) <= kLargest && value >= low && value <= high;
  };
  for (int step = 1; step <= kMostNeighbours; ++step) {
    const bool below = is_inside(middle - step);
    const bool above = is_inside(middle + step);
    if (!below && !above) return false;
    if (below && fn(half_of(middle - step))) return true;
    if (above && fn(half_of(middle + step))) return true;
  }
  return false;
}

/// From the middle of the range.
template <class Function>
bool for_halves(double low, double high, Function&& fn) {
  return for_halves(low, high, 0.5 * (low + high), fn);
}

}  // namespace knapsaq
