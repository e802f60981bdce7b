#include "knapsaq/search/amq/vary_levels.h"

namespace knapsaq {
namespace {

/// One level up or down; both are equally likely if both are possible.
void step(double& gene, std::size_t count, Random& random) {
  const auto last = static_cast<double>(count - 1);
  if (gene <= 0) {
    gene = 1;
  } else if (gene >= last) {
    gene = last - 1;
  } else {
    gene += random.below(2) == 0 ? 1 : -1;
  }
}

}  // namespace

nsga2::Genes vary_levels(const nsga2::Genes& first, const nsga2::Genes& second,
                         std::span<const std::size_t> counts, const LevelVariation& variation,
                         Random& random) {
  nsga2::Genes child = first;
  if (random.uniform() < variation.crossover)
    for (std::size_t i = 0; i < child.size(); ++i)
      if (random.below(2) == 0) child[i] = second[i];
  if (random.uniform() >= variation.mutation) return child;
  if (variation.redraw) {
    for (std::size_t i = 0; i < child.size(); ++i) child[i] = static_cast<double>(random.below(counts[i]));
    return child;
  }
  bool moved = false;
  for (std::size_t i = 0; i < child.size(); ++i)
    if (random.below(child.size()) == 0) {
      step(child[i], counts[i], random);
      moved = true;
    }
  if (!moved) {
    const std::size_t i = random.below(child.size());
    step(child[i], counts[i], random);
  }
  return child;
}

}  // namespace knapsaq
