#pragma once

#include <cstddef>
#include <span>

#include "knapsaq/base/random.h"
#include "knapsaq/search/amq/nsga2.h"

namespace knapsaq {

/// How NSGA-II makes points of levels out of others.
struct LevelVariation {
  double crossover = 0.9;  ///< probability that a child takes each level from either parent, else copies one
  double mutation = 0.1;   ///< probability that a child is changed
  /// Change by drawing all levels anew: AMQ's IntMutation, which makes a tenth of all children noise and
  /// never looks next to a good point. Otherwise a changed child has one variable on average, at least one,
  /// moved one level up or down.
  bool redraw = false;
};

/// A child of two points; counts[i] is how many levels gene i has, at least 2.
nsga2::Genes vary_levels(const nsga2::Genes& first, const nsga2::Genes& second,
                         std::span<const std::size_t> counts, const LevelVariation& variation,
                         Random& random);

}  // namespace knapsaq
