#include "knapsaq/search/amq/nsga2.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/search/amq/vary_levels.h"
#include "knapsaq/search/front.h"

namespace knapsaq {
namespace {

using nsga2::Genes;
using nsga2::Individual;
using nsga2::Objectives;

std::vector<Individual> with_objectives(const std::vector<Objectives>& objectives) {
  std::vector<Individual> population;
  for (const Objectives& one : objectives) population.push_back({.genes = {}, .objectives = one});
  return population;
}

TEST(Nsga2, RanksAreThoseOfTheDefinition) {
  Random random(1);
  for (const std::size_t objectives : {1u, 2u, 3u, 4u})
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<Objectives> values(60, Objectives(objectives));
      for (Objectives& one : values)
        for (double& value : one) value = static_cast<double>(random.below(8));  // many equal ones
      const std::vector<std::size_t> ranks = nsga2::ranks(with_objectives(values));
      // Peel off what nothing that is left dominates.
      std::vector<std::size_t> expected(values.size(), SIZE_MAX);
      for (std::size_t rank = 0; std::ranges::count(expected, SIZE_MAX) > 0; ++rank) {
        std::vector<std::size_t> front;
        for (std::size_t i = 0; i < values.size(); ++i) {
          bool beaten = expected[i] != SIZE_MAX;
          for (std::size_t j = 0; j < values.size() && !beaten; ++j)
            beaten = expected[j] == SIZE_MAX && nsga2::dominates(values[j], values[i]);
          if (!beaten) front.push_back(i);
        }
        for (const std::size_t i : front) expected[i] = rank;
      }
      EXPECT_EQ(ranks, expected);
    }
}

TEST(Nsga2, CrowdingIsTheSizeOfTheGap) {
  std::vector<Individual> population = with_objectives({{4, 0}, {0, 4}, {1, 2}, {2, 1}, {1, 2}});
  nsga2::measure_crowding(population, std::vector<std::size_t>{0, 1, 2, 3, 4});
  EXPECT_TRUE(std::isinf(population[0].crowding));
  EXPECT_TRUE(std::isinf(population[1].crowding));
  EXPECT_DOUBLE_EQ(population[2].crowding, 2.0 / 4 + 3.0 / 4);
  EXPECT_DOUBLE_EQ(population[3].crowding, 3.0 / 4 + 2.0 / 4);
  EXPECT_EQ(population[4].crowding, 0);  // says what another one says already
}

TEST(Nsga2, SurvivalKeepsTheBestFrontAndItsSpread) {
  std::vector<Individual> population = with_objectives({{3, 3}, {0, 4}, {1, 3}, {1.1, 2.9}, {2, 1}, {4, 0}});
  nsga2::survive(population, 4);
  ASSERT_EQ(population.size(), 4u);
  std::set<Objectives> left;
  for (const Individual& one : population) left.insert(one.objectives);
  EXPECT_TRUE(left.contains({0, 4}) && left.contains({4, 0}) && left.contains({2, 1}));
  EXPECT_FALSE(left.contains({3, 3}));
}

// The operators that pymoo's NSGA-II uses for real variables in [0, 1].

/// Simulated binary crossover (Deb and Agrawal 1995) of one variable of two children.
void sbx(double& a, double& b, Random& random) {
  constexpr double kEta = 15;
  if (random.uniform() >= 0.5 || std::abs(a - b) <= 1e-14) return;
  const double low = std::min(a, b);
  const double high = std::max(a, b);
  const double draw = random.uniform();
  const auto spread = [&](double room) {
    const double beta = 1 + 2 * room / (high - low);
    const double alpha = 2 - std::pow(beta, -(kEta + 1));
    return std::pow(draw <= 1 / alpha ? draw * alpha : 1 / (2 - draw * alpha), 1 / (kEta + 1));
  };
  a = std::clamp(0.5 * (low + high - spread(low) * (high - low)), 0.0, 1.0);
  b = std::clamp(0.5 * (low + high + spread(1 - high) * (high - low)), 0.0, 1.0);
  if (random.below(2) == 0) std::swap(a, b);
}

/// Polynomial mutation (Deb and Deb 2014).
double polynomial(double x, Random& random) {
  constexpr double kEta = 20;
  const double draw = random.uniform();
  const double step =
      draw <= 0.5 ? std::pow(2 * draw + (1 - 2 * draw) * std::pow(1 - x, kEta + 1), 1 / (kEta + 1)) - 1
                  : 1 - std::pow(2 * (1 - draw) + 2 * (draw - 0.5) * std::pow(x, kEta + 1), 1 / (kEta + 1));
  return std::clamp(x + step, 0.0, 1.0);
}

std::vector<Genes> vary_real(const Genes& first, const Genes& second, Random& random) {
  std::vector<Genes> children = {first, second};
  if (random.uniform() < 0.9)
    for (std::size_t i = 0; i < first.size(); ++i) sbx(children[0][i], children[1][i], random);
  for (Genes& child : children) {
    if (random.uniform() >= 0.9) continue;
    for (double& x : child)
      if (random.below(child.size()) == 0) x = polynomial(x, random);
  }
  return children;
}

/// ZDT1 to 3 (Zitzler, Deb and Thiele 2000).
Objectives zdt(char number, const Genes& genes) {
  double g = 0;
  for (std::size_t i = 1; i < genes.size(); ++i) g += genes[i];
  g = 1 + 9 * g / static_cast<double>(genes.size() - 1);
  const double f = genes[0];
  switch (number) {
    case '1':
      return {f, g * (1 - std::sqrt(f / g))};
    case '2':
      return {f, g * (1 - f / g * (f / g))};
    default:
      return {f, g * (1 - std::sqrt(f / g) - f / g * std::sin(10 * std::numbers::pi * f))};
  }
}

/// An allocation of three levels to 40 variables, damage against size: tools/compare_pymoo.py has it too.
Objectives levels_problem(const Genes& genes) {
  double damage = 0;
  double size = 0;
  double before = 0;
  for (std::size_t i = 0; i < genes.size(); ++i) {
    const double own = static_cast<double>(1 + i * 7 % 11) * std::pow(0.25, genes[i]);
    damage += own;
    if (i > 0) damage += (static_cast<double>(i * 5 % 7) - 3) / 10 * std::min(own, before);
    before = own;
    size += static_cast<double>(1 + i % 4) * (2 + genes[i]);
  }
  return {damage, size};
}

template <class Function>
nsga2::Evaluate one_by_one(const Function& function) {
  return [function](std::span<const Genes> genes) {
    std::vector<Objectives> objectives;
    for (const Genes& one : genes) objectives.push_back(function(one));
    return objectives;
  };
}

double hypervolume_of(const std::vector<Individual>& population, const std::vector<double>& ideal,
                      const std::vector<double>& reference) {
  std::vector<Outcome> outcomes;
  for (const Individual& one : population) outcomes.push_back({one.objectives[0], one.objectives[1]});
  return hypervolume(outcomes, {ideal[0], ideal[1]}, {reference[0], reference[1]});
}

TEST(Nsga2, ReachesTheHypervolumesOfPymoo) {
  std::ifstream file(KNAPSAQ_TEST_DATA "/search/pymoo_references.json");
  const auto cases = nlohmann::json::parse(file).at("cases");
  ASSERT_GE(cases.size(), 8u);
  for (const auto& one : cases) {
    const auto name = one.at("name").get<std::string>();
    const nsga2::Options options{.population = one.at("population"), .generations = one.at("generations")};
    std::vector<double> ours;
    for (std::uint64_t seed = 1; seed <= 9; ++seed) {
      Random random(seed);
      std::vector<Genes> initial(options.population);
      std::vector<Individual> last;
      if (name.starts_with("zdt")) {
        for (Genes& genes : initial)
          for (int i = 0; i < 30; ++i) genes.push_back(random.uniform());
        last = nsga2::run(initial, options,
                          one_by_one([&](const Genes& genes) { return zdt(name.back(), genes); }), vary_real,
                          random);
      } else {
        const std::vector<std::size_t> counts(40, 3);
        const LevelVariation variation{.redraw = name == "levels redraw"};
        for (Genes& genes : initial)
          for (int i = 0; i < 40; ++i) genes.push_back(static_cast<double>(random.below(3)));
        last = nsga2::run(
            initial, options, one_by_one(levels_problem),
            [&](const Genes& first, const Genes& second, Random& r) {
              return std::vector<nsga2::Genes>{vary_levels(first, second, counts, variation, r)};
            },
            random);
      }
      EXPECT_EQ(last.size(), options.population);
      ours.push_back(hypervolume_of(last, one.at("ideal"), one.at("reference")));
    }
    auto theirs = one.at("hypervolumes").get<std::vector<double>>();
    std::ranges::sort(ours);
    std::ranges::sort(theirs);
    // Our median lies within their seeds or above.
    EXPECT_GE(ours[ours.size() / 2], theirs.front()) << name << " after " << options.generations;
    // For people, in --gtest_output=xml: least, median and most.
    const auto told = [](const std::vector<double>& values) {
      return std::to_string(values.front()) + " " + std::to_string(values[values.size() / 2]) + " " +
             std::to_string(values.back());
    };
    RecordProperty(name + " after " + std::to_string(options.generations),
                   "pymoo " + told(theirs) + ", ours " + told(ours));
  }
}

TEST(Nsga2, PopulationsAreOfDifferentGenes) {
  Random random(5);
  const std::vector<std::size_t> counts(4, 3);  // 81 points, fewer than are asked for
  const auto vary = [&](const Genes& first, const Genes& second, Random& r) {
    return std::vector<nsga2::Genes>{vary_levels(first, second, counts, {}, r)};
  };
  const std::vector<Genes> initial(3, Genes{0, 1, 2, 0});
  const std::vector<Individual> last =
      nsga2::run(initial, {.population = 100, .generations = 40}, one_by_one(levels_problem), vary, random);
  std::set<Genes> genes;
  for (const Individual& one : last) genes.insert(one.genes);
  EXPECT_EQ(genes.size(), last.size());
  EXPECT_EQ(last.size(), 81u);
}

TEST(VaryLevels, StaysWithinTheLevelsAndNearTheParents) {
  Random random(6);
  const std::vector<std::size_t> counts = {2, 3, 4, 12, 3, 2};
  const Genes parent = {0, 2, 1, 11, 1, 1};
  std::size_t moves = 0;
  for (int i = 0; i < 2000; ++i) {
    const Genes child = vary_levels(parent, parent, counts, {.mutation = 1}, random);
    double moved = 0;
    for (std::size_t v = 0; v < child.size(); ++v) {
      EXPECT_GE(child[v], 0);
      EXPECT_LT(child[v], static_cast<double>(counts[v]));
      EXPECT_LE(std::abs(child[v] - parent[v]), 1);
      moved += std::abs(child[v] - parent[v]);
    }
    EXPECT_GE(moved, 1);
    moves += static_cast<std::size_t>(moved);
  }
  EXPECT_LT(moves, 2 * 2000u);
}

TEST(VaryLevels, RedrawingForgetsTheParents) {
  Random random(7);
  const std::vector<std::size_t> counts(200, 3);
  const Genes parent(200, 0.0);
  const Genes child = vary_levels(parent, parent, counts, {.mutation = 1, .redraw = true}, random);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(child, 0.0)), 67, 25);
}

TEST(VaryLevels, CrossoverTakesFromBoth) {
  Random random(8);
  const std::vector<std::size_t> counts(200, 3);
  const Genes child =
      vary_levels(Genes(200, 0.0), Genes(200, 2.0), counts, {.crossover = 1, .mutation = 0}, random);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(child, 2.0)), 100, 30);
  EXPECT_EQ(std::ranges::count(child, 1.0), 0);
  EXPECT_EQ(vary_levels(Genes(3, 1.0), Genes(3, 2.0), counts, {.crossover = 0, .mutation = 0}, random),
            Genes(3, 1.0));
}

}  // namespace
}  // namespace knapsaq
