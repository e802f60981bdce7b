#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace knapsaq {

/// A measured allocation in the plane of a Pareto front; both values are minimised.
struct Outcome {
  double size = 0;  ///< bits per weight, or bytes
  double divergence = 0;
};

/// The Pareto front: indices of the outcomes that no other outcome beats or equals in both values, ascending
/// by size (descending by divergence). Of equal outcomes, the first counts. Outcomes that are not finite
/// never belong to it.
std::vector<std::size_t> front(std::span<const Outcome> outcomes);

/// The share of the rectangle between `ideal` and `reference` that the outcomes dominate (Zitzler and Thiele,
/// "Multiobjective evolutionary algorithms", IEEE Transactions on Evolutionary Computation 3, 1999; here by
/// one sweep over the front): 1 would be the ideal. Outcomes beyond the reference count for nothing, and
/// outcomes below the ideal count as if they were on it. 0 unless the reference is beyond the ideal in both
/// values.
double hypervolume(std::span<const Outcome> outcomes, const Outcome& ideal, const Outcome& reference);

}  // namespace knapsaq
