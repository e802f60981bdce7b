#pragma once

#include <cstdint>

#include "knapsaq/base/error.h"
#include "knapsaq/search/knapsack.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The point of least total cost within a budget, by the exact knapsack. Its `bytes` are of the kind that the
/// budget limits. Throws InfeasibleError like require_feasible().
FrontPoint best_point(const SearchSpace& space, const LevelCosts& costs, const Budget& budget);

/// The smallest point, by bytes of files or of linears.
Point smallest_point(const SearchSpace& space, Budget::Of of);

/// Throws InfeasibleError, which names the smallest size, if no point fits the budget; that size is feasible.
void require_feasible(const SearchSpace& space, const Budget& budget);

/// The message for linears with this many weights that take at least `least` bytes, in both units in which
/// budgets are given.
InfeasibleError linears_do_not_fit(std::uint64_t budget, std::uint64_t least, std::int64_t parameters);

}  // namespace knapsaq
