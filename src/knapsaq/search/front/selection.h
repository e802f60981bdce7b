#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "knapsaq/search/front.h"
#include "knapsaq/search/front/surrogate_front.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Cost of a candidate in addition to those picked before it: the evaluator computes a common prefix of
/// points once.
class PrefixCost {
 public:
  PrefixCost(const SearchSpace& space, std::span<const Proposal> candidates);
  /// In passes of the whole model, estimated from the weights after the common prefix.
  double of(std::size_t candidate) const { return shares_[candidate]; }
  void pick(std::size_t candidate);

 private:
  std::span<const Proposal> candidates_;
  std::vector<double> behind_;  ///< [variables + 1]: share of a pass from this variable on
  std::vector<double> shares_;
};

/// Picks candidates one after another until they cost `passes` or number `most`. Each pick adds most
/// hypervolume per cost to the front of `known` and of the earlier picks, if the predictions are correct.
/// Every other pick uses logarithmic divergences for the hypervolume: with plain ones, the sizes at which
/// models are served (3 bits and more) would hardly count beside 2 bits. Candidates that add nothing are not
/// picked. `outcomes` are the predicted ones of the candidates.
std::vector<std::size_t> select_by_hypervolume(std::span<const Outcome> outcomes,
                                               std::span<const Outcome> known, const Outcome& ideal,
                                               const Outcome& reference, double passes, std::size_t most,
                                               PrefixCost& cost);

}  // namespace knapsaq
