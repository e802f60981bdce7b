#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace knapsaq {

/// A measured allocation in the plane that a front is about; both small is good.
struct Outcome {
  double size = 0;  ///< bits per weight, or bytes
  double divergence = 0;
};

/// Indices of the outcomes that no other one beats or equals in both, ascending by size (descending by
/// divergence). Of equal outcomes the first counts. Outcomes that are not finite never belong to it.
std::vector<std::size_t> front(std::span<const Outcome> outcomes);

/// Share of the rectangle between `ideal` and `reference` that the outcomes dominate (Zitzler and Thiele,
/// "Multiobjective evolutionary algorithms", IEEE Transactions on Evolutionary Computation 3, 1999; here by
/// one sweep over the front): 1 would be the ideal. What lies beyond the reference counts for nothing, and
/// what lies below the ideal as if it were on it. 0 unless the reference is beyond the ideal in both.
double hypervolume(std::span<const Outcome> outcomes, const Outcome& ideal, const Outcome& reference);

}  // namespace knapsaq
