#pragma once

#include <vector>

#include "knapsaq/search/space.h"

namespace knapsaq {

/// For every choice of the menu that a variable has, in the menu's order, the point that gives it to all
/// variables. One that lacks it (a pin, a width that it does not fit) gets its level nearest in bytes per
/// weight. No point twice.
std::vector<Point> uniform_points(const SearchSpace& space);

}  // namespace knapsaq
