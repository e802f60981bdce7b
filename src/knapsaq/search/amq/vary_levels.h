#pragma once

#include <cstddef>
#include <span>

#include "knapsaq/base/random.h"
#include "knapsaq/search/amq/nsga2.h"

namespace knapsaq {

/// How NSGA-II creates points of levels from others.
struct LevelVariation {
  double crossover = 0.9;  ///< probability that a child takes each level from either parent, else copies one
  double mutation = 0.1;   ///< probability that a child is changed
  /// Mutation draws all levels anew: AMQ's IntMutation, which turns a tenth of all children into noise and
  /// never searches near a good point. Otherwise a mutated child has one variable on average, at least one,
  /// moved by one level.
  bool redraw = false;
};

/// A child of two points; counts[i] is the number of levels of gene i, at least 2.
nsga2::Genes vary_levels(const nsga2::Genes& first, const nsga2::Genes& second,
                         std::span<const std::size_t> counts, const LevelVariation& variation,
                         Random& random);

}  // namespace knapsaq
