#pragma once

#include "knapsaq/pipeline/allocation.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The schemes of a point's matrices, in the order of the space.
std::vector<NamedScheme> named_allocation(const SearchSpace& space, const Point& point);
/// The menu's choices that the point makes, in the menu's order.
std::vector<SchemeCount> scheme_counts(const SearchSpace& space, const Point& point);

}  // namespace knapsaq
