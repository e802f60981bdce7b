#pragma once

#include <cstdint>

#include "knapsaq/base/error.h"
#include "knapsaq/search/knapsack.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The point of least total cost within a budget: the exact knapsack. Its `bytes` are what the budget limits.
/// Throws InfeasibleError as require_feasible() does.
FrontPoint best_point(const SearchSpace& space, const LevelCosts& costs, const Budget& budget);

/// The point that takes least, of files or of linears.
Point smallest_point(const SearchSpace& space, Budget::Of of);

/// Throws InfeasibleError that names the smallest size if no point fits into the budget; that size is then
/// feasible.
void require_feasible(const SearchSpace& space, const Budget& budget);

/// What is said where linears with so many weights take at least `least` bytes: in both units that people
/// give budgets in.
InfeasibleError linears_do_not_fit(std::uint64_t budget, std::uint64_t least, std::int64_t parameters);

}  // namespace knapsaq
