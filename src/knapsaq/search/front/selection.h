#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "knapsaq/search/front.h"
#include "knapsaq/search/front/model_front.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// What a candidate costs beside those that were picked before it: the evaluator computes once what points
/// have in common at the beginning.
class PrefixCost {
 public:
  PrefixCost(const SearchSpace& space, std::span<const Proposal> candidates);
  /// In passes of the whole model, estimated from the weights behind the common prefix.
  double of(std::size_t candidate) const { return shares_[candidate]; }
  void pick(std::size_t candidate);

 private:
  std::span<const Proposal> candidates_;
  std::vector<double> behind_;  ///< [variables + 1]: share of a pass from this variable on
  std::vector<double> shares_;
};

/// Picks candidates, one after another, each the one that adds most hypervolume per cost to the front of
/// `known` and those picked before, as if candidates kept what is predicted of them, until they cost `passes`
/// or are `most`. Every other pick counts the hypervolume with logarithmic divergences: in plain ones, the
/// sizes at which people serve models (3 bits and more) would hardly count beside 2 bits. Candidates that add
/// nothing are not picked. `outcomes` are those of the candidates.
std::vector<std::size_t> select_by_hypervolume(std::span<const Outcome> outcomes,
                                               std::span<const Outcome> known, const Outcome& ideal,
                                               const Outcome& reference, double passes, std::size_t most,
                                               PrefixCost& cost);

}  // namespace knapsaq
