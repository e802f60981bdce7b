#pragma once

#include <algorithm>

#include "knapsaq/search/space.h"

namespace knapsaq {

/// Orders points by their levels, first variable first: for maps and sorting. (What operator< of vectors
/// does; of vectors of bytes GCC 12 cannot compile that without a warning.)
struct PointLess {
  bool operator()(const Point& a, const Point& b) const { return std::ranges::lexicographical_compare(a, b); }
};

}  // namespace knapsaq
