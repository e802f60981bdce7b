#pragma once

#include <vector>

#include "knapsaq/search/space.h"

namespace knapsaq {

/// For every choice of the menu that some variable has, in the menu's order, the point that assigns it to all
/// variables. A variable that lacks it (because of a constraint or its width) gets its level nearest in bytes
/// per weight. No point appears twice.
std::vector<Point> uniform_points(const SearchSpace& space);

}  // namespace knapsaq
