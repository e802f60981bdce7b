#pragma once

#include <algorithm>

#include "knapsaq/search/space.h"

namespace knapsaq {

/// Orders points by their levels, first variable first, for maps and sorting. (This is operator< of vectors,
/// which GCC 12 cannot compile without a warning for vectors of bytes.)
struct PointLess {
  bool operator()(const Point& a, const Point& b) const { return std::ranges::lexicographical_compare(a, b); }
};

}  // namespace knapsaq
