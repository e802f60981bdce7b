#include "knapsaq/search/front/fisher_increases.h"

#include <cmath>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "search/made_space.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// A space with Fisher costs, and divergences that add up from increases of these times random factors; the
/// first variable's cost falls short of its increase by a factor of 20.
struct Made {
  explicit Made(std::size_t variables) : space(made_space(variables)) {
    Random random(5);
    for (std::size_t v = 0; v < variables; ++v) {
      const double factor = v == 0 ? 20 : std::exp(0.4 * random.normal());
      std::vector<double>& own = increases.emplace_back();
      for (SpaceLevel& level : space.variables[v].levels) {
        level.errors[static_cast<std::size_t>(Cost::fisher)] = level.error;
        own.push_back(factor * (level.error - space.variables[v].levels.back().error));
      }
    }
  }
  double divergence(const Point& point) const {
    double sum = base;
    for (std::size_t v = 0; v < point.size(); ++v) sum += increases[v][point[v]];
    return sum;
  }
  std::vector<Sample> samples(std::size_t count) const {
    Random random(6);
    std::vector<Sample> result = {{space.largest(), base}};
    while (result.size() < count) {
      const Point point = random_point(space, random);
      result.push_back({point, divergence(point)});
    }
    return result;
  }
  /// Spread of the logarithms of predicted over true divergences at other points.
  double miss(const SingleIncreases& found) const {
    Random random(7);
    double squares = 0;
    constexpr int kPoints = 200;
    for (int i = 0; i < kPoints; ++i) {
      const Point point = random_point(space, random);
      double sum = found.base;
      for (std::size_t v = 0; v < point.size(); ++v) sum += found.increase[v][point[v]];
      squares += std::pow(std::log(sum / divergence(point)), 2);
    }
    return std::sqrt(squares / kPoints);
  }

  SearchSpace space;
  double base = 0.01;
  std::vector<std::vector<double>> increases;
};

TEST(FisherIncreases, AreKnownIfAllCostsAre) {
  Made made(6);
  EXPECT_TRUE(has_fisher(made.space));
  EXPECT_FALSE(has_fisher(made_space(6)));
  EXPECT_THROW(fisher_increases(made_space(6), {{{made_space(6).largest(), 1.0}}}), std::invalid_argument);
  EXPECT_THROW(fisher_increases(made.space, {{{made.space.smallest(), 1.0}}}), std::invalid_argument);
}

TEST(FisherIncreases, LearnFromPointsOfAnyKind) {
  const Made made(20);
  const double few = made.miss(fisher_increases(made.space, made.samples(2)));
  const double some = made.miss(fisher_increases(made.space, made.samples(20)));
  const double many = made.miss(fisher_increases(made.space, made.samples(120)));
  EXPECT_LT(some, 0.7 * few);
  EXPECT_LT(many, 0.5 * some);
  EXPECT_LT(many, 0.03);
}

TEST(FisherIncreases, LastLevelsAddNothingAndNoneIsNegative) {
  const Made made(9);
  const SingleIncreases found = fisher_increases(made.space, made.samples(30));
  EXPECT_EQ(found.base, made.base);
  for (const std::vector<double>& own : found.increase) {
    EXPECT_EQ(own.back(), 0);
    for (std::size_t l = 0; l + 1 < own.size(); ++l) EXPECT_GT(own[l], 0);
  }
}

TEST(FisherIncreases, DrawsSpreadByWhatTheSamplesLeaveOpen) {
  const Made made(20);
  const auto spread = [&](std::size_t count) {
    const std::vector<Sample> samples = made.samples(count);
    const SingleIncreases mean = fisher_increases(made.space, samples);
    Random random(8);
    double squares = 0;
    for (int draw = 0; draw < 10; ++draw) {
      const SingleIncreases drawn = fisher_increases(made.space, samples, &random);
      for (std::size_t v = 0; v < mean.increase.size(); ++v)
        squares += std::pow(std::log(drawn.increase[v][0] / mean.increase[v][0]), 2);
    }
    return std::sqrt(squares / (10 * 20));
  };
  EXPECT_GT(spread(5), 0.1);
  EXPECT_LT(spread(150), 0.7 * spread(5));
  Random one(9);
  Random same(9);
  const std::vector<Sample> samples = made.samples(10);
  EXPECT_EQ(fisher_increases(made.space, samples, &one).increase,
            fisher_increases(made.space, samples, &same).increase);
}

TEST(FisherIncreases, DoNotDependOnThreads) {
  const Made made(12);
  const std::vector<Sample> samples = made.samples(50);
  work_with_threads(1);
  const SingleIncreases one = fisher_increases(made.space, samples);
  work_with_threads(3);
  const SingleIncreases three = fisher_increases(made.space, samples);
  work_with_threads(0);
  EXPECT_EQ(one.increase, three.increase);
}

}  // namespace
}  // namespace knapsaq
