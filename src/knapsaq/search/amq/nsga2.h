#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "knapsaq/base/random.h"

// NSGA-II (Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
// NSGA-II", IEEE Transactions on Evolutionary Computation 6, 2002); all objectives are minimised.

namespace knapsaq::nsga2 {

using Genes = std::vector<double>;
using Objectives = std::vector<double>;

struct Individual {
  Genes genes;
  Objectives objectives;
  std::size_t rank = 0;  ///< of its front; 0: nothing in the population dominates it
  double crowding = std::numeric_limits<double>::infinity();
};

struct Options {
  std::size_t population = 200;
  /// With the evaluation of the initial population as the first, as pymoo counts them.
  std::size_t generations = 20;
};

/// Objectives of a batch of genes.
using Evaluate = std::function<std::vector<Objectives>(std::span<const Genes>)>;
/// The children of two parents, one or more: crossover and mutation.
using Vary = std::function<std::vector<Genes>(const Genes& first, const Genes& second, Random& random)>;

/// a is nowhere worse than b and somewhere better.
bool dominates(const Objectives& a, const Objectives& b);

/// Rank of every point, by efficient non-dominated sorting (Zhang, Tian, Cheng and Jin, IEEE Transactions on
/// Evolutionary Computation 19, 2015): with two objectives O(n (log n + fronts)).
std::vector<std::size_t> ranks(std::span<const Individual> population);

/// Sets the crowding distance of the members of one front; the extremes get infinity. Of points with the same
/// objectives, all but the first get 0: they add nothing to the front.
void measure_crowding(std::span<Individual> population, std::span<const std::size_t> front);

/// Sets the ranks and crowding distances of all and keeps the `count` best, in the order of rank and
/// decreasing crowding distance.
void survive(std::vector<Individual>& population, std::size_t count);

/// Runs NSGA-II from these genes: at least one, and fewer or more than the population are allowed; duplicates
/// are dropped. No two members of a population have the same genes. Returns the last population, which has
/// `population` members unless the variation found nothing new often enough.
std::vector<Individual> run(std::span<const Genes> initial, const Options& options, const Evaluate& evaluate,
                            const Vary& vary, Random& random);

}  // namespace knapsaq::nsga2
