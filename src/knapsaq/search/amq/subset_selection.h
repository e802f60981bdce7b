#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "knapsaq/base/random.h"

namespace knapsaq {

struct SubsetOptions {
  std::size_t population = 100;
  std::size_t generations = 60;  ///< with the initial population as the first
};

/// `count` of the candidates, as ascending indices, chosen so that their sizes and those of the front are
/// spread as evenly as possible: least standard deviation of the gaps between neighbours. This is the genetic
/// algorithm of AMQ and MSuNAS (Lu et al., "NSGANetV2", ECCV 2020, section 3.2): children keep what their
/// parents share, fill up from either parent, and exchange one member. All candidates if there are no more
/// than `count`.
std::vector<std::size_t> select_subset(std::span<const double> candidates, std::span<const double> front,
                                       std::size_t count, const SubsetOptions& options, Random& random);

/// Standard deviation of the gaps between neighbours, of values in any order; 0 for fewer than two.
double gap_deviation(std::vector<double> values);

}  // namespace knapsaq
