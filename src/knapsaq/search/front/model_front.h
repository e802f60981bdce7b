#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/search/front/damage_model.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// A point that the model likes, and why.
struct Proposal {
  Point point;
  std::uint64_t bytes = 0;  ///< linear_bytes()
  double predicted = 0;     ///< divergence
};

/// For every budget, none of which is too small, a point within it of which the model expects little: from
/// the exact knapsack over additive costs and from the best known points within it, each improved until no
/// change of one variable, nor of one up and another down, is better. Repetitions are left out.
std::vector<Proposal> minimise(const SearchSpace& space, const DamageModel& model,
                               std::span<const Budget> budgets, std::span<const Proposal> known);

/// Points that differ from one of `centres` by one step of one variable, or by one step up of one and one
/// step down of another, with what the model expects: of the larger, the smaller and the equally large ones
/// around every centre those that promise most per byte. Repetitions are left out.
std::vector<Proposal> neighbours(const SearchSpace& space, const DamageModel& model,
                                 std::span<const Point> centres);

/// Leaves the first of equal points; no point is copied.
void drop_repetitions(std::vector<Proposal>& proposals);

}  // namespace knapsaq
