#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/search/front/surrogate.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// A point that the surrogate predicts to be good.
struct Proposal {
  Point point;
  std::uint64_t bytes = 0;  ///< linear_bytes()
  double predicted = 0;     ///< divergence
};

/// For every budget, a point within it with a small predicted divergence. No budget may be too small. Starts
/// are the exact knapsack over additive costs and the best known points within the budget. Each is improved
/// until no change of one variable, nor of one up and another down, is better. Duplicates are dropped.
std::vector<Proposal> minimise(const SearchSpace& space, const Surrogate& surrogate,
                               std::span<const Budget> budgets, std::span<const Proposal> known);

/// Points that differ from one of `centres` by one step of one variable, or by one step up of one and one
/// step down of another, with their predictions. Around every centre, the most promising per byte of the
/// larger, the smaller and the equally large points are returned. Duplicates are dropped.
std::vector<Proposal> neighbours(const SearchSpace& space, const Surrogate& surrogate,
                                 std::span<const Point> centres);

/// Keeps the first of equal points; copies no point.
void drop_repetitions(std::vector<Proposal>& proposals);

}  // namespace knapsaq
