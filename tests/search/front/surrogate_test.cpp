#include "knapsaq/search/front/surrogate.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include <gmock/gmock.h>

#include "knapsaq/search/front.h"
#include "knapsaq/search/point_less.h"
#include "search/made_space.h"
#include "search/synthetic_evaluator.h"

namespace knapsaq {
namespace {

constexpr std::size_t kVariables = 21;
constexpr std::uint8_t kLevels[] = {0, 1};  // the lowest and the middle one

/// The largest point and every single change to the lowest and the middle level.
std::vector<Point> single_changes(const SearchSpace& space) {
  std::vector<Point> points = {space.largest()};
  for (std::size_t i = 0; i < space.variables.size(); ++i) {
    for (const std::uint8_t level : kLevels) {
      points.push_back(space.largest());
      points.back()[i] = level;
    }
  }
  return points;
}

std::vector<Sample> measure(const SyntheticEvaluator& evaluator, const std::vector<Point>& points) {
  std::vector<Sample> samples;
  for (const Point& point : points) samples.push_back({point, evaluator.damage(point)});
  return samples;
}

/// Root mean square of log(predicted / true).
double log_error(const Surrogate& surrogate, const SyntheticEvaluator& evaluator,
                 const std::vector<Point>& points) {
  double squares = 0;
  for (const Point& point : points) {
    const double miss = std::log(surrogate.predict(point) / evaluator.damage(point));
    squares += miss * miss;
  }
  return std::sqrt(squares / static_cast<double>(points.size()));
}

TEST(SingleIncreases, AreDifferencesToTheLargestPoint) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space);
  const SingleIncreases increases = single_increases(space, measure(evaluator, single_changes(space)));
  EXPECT_DOUBLE_EQ(increases.base, evaluator.damage(space.largest()));
  for (std::size_t i = 0; i < kVariables; ++i) {
    EXPECT_EQ(increases.increase[i][2], 0);
    for (const std::uint8_t level : kLevels) {
      Point point = space.largest();
      point[i] = level;
      EXPECT_NEAR(increases.increase[i][level], evaluator.damage(point) - increases.base,
                  1e-12 * increases.base);
    }
  }
}

TEST(SingleIncreases, FollowTheLocalErrorWhereNothingWasMeasured) {
  SearchSpace space = made_space(kVariables);
  space.cost = Cost::hessian;  // errors are squares already: increases are proportional to them
  const SyntheticEvaluator evaluator(space, {.interaction = 0});
  std::vector<Sample> samples = measure(evaluator, single_changes(space));
  // Of the first variable only the lowest level, of the second nothing.
  std::erase_if(samples, [&](const Sample& sample) { return sample.point[0] == 1 || sample.point[1] != 2; });
  const SingleIncreases increases = single_increases(space, samples);
  Point middle = space.largest();
  middle[0] = 1;
  EXPECT_NEAR(increases.increase[0][1], evaluator.damage(middle) - increases.base,
              1e-9 * increases.increase[0][1]);
  EXPECT_GT(increases.increase[1][0], increases.increase[1][1]);
  EXPECT_GT(increases.increase[1][1], 0);
}

TEST(SingleIncreases, NoiseBelowZeroStaysSmallAndPositive) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space);
  std::vector<Sample> samples = measure(evaluator, single_changes(space));
  samples[1].divergence = samples[0].divergence / 2;  // better than the largest point
  const SingleIncreases increases = single_increases(space, samples);
  EXPECT_GT(increases.increase[0][0], 0);
  EXPECT_LT(increases.increase[0][0], increases.base);
}

TEST(SingleIncreases, NeedTheLargestPoint) {
  const SearchSpace space = made_space(kVariables);
  const std::vector<Sample> samples = {{space.smallest(), 1}};
  EXPECT_THROW(single_increases(space, samples), std::invalid_argument);
}

TEST(Surrogate, FindsAdditiveIncreasesFromSingleChangesAlone) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space, {.interaction = 0});
  const std::vector<Sample> samples = measure(evaluator, single_changes(space));
  const Surrogate surrogate(space, single_increases(space, samples), samples);
  Random random(3);
  std::vector<Point> points;
  for (int i = 0; i < 50; ++i) points.push_back(random_point(space, random));
  EXPECT_LT(log_error(surrogate, evaluator, points), 0.01);
}

/// Embedding and head are outside the blocks (block -1), so they are no more of a pair than two blocks are.
TEST(Surrogate, EmbeddingAndHeadAreInNoBlockTogether) {
  SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space, {.interaction = 0.9});
  Random random(7);
  std::vector<Point> points = single_changes(space);
  for (int i = 0; i < 60; ++i) points.push_back(random_point(space, random));
  const std::vector<Sample> samples = measure(evaluator, points);
  SearchSpace apart = space;
  space.variables.front().block = space.variables.back().block = -1;
  apart.variables.front().block = 100;
  apart.variables.back().block = 101;
  const Surrogate surrogate(space, single_increases(space, samples), samples);
  const Surrogate other(apart, single_increases(apart, samples), samples);
  for (int i = 0; i < 20; ++i) {
    const Point point = random_point(space, random);
    EXPECT_EQ(surrogate.predict(point), other.predict(point));
  }
}

TEST(Surrogate, LearnsInteractionsFromPoints) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space, {.interaction = 0.9});
  Random random(5);
  std::vector<Point> held_out;
  for (int i = 0; i < 60; ++i) held_out.push_back(random_point(space, random));
  std::vector<Point> points = single_changes(space);
  const auto error = [&] {
    const std::vector<Sample> samples = measure(evaluator, points);
    return log_error(Surrogate(space, single_increases(space, samples), samples), evaluator, held_out);
  };
  const double before = error();
  for (int i = 0; i < 120; ++i) points.push_back(random_point(space, random));
  const double after = error();
  EXPECT_LT(after, before / 2);
}

TEST(Surrogate, WalksAgreeWithPredictions) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space, {.interaction = 0.9});
  Random random(7);
  std::vector<Point> points = single_changes(space);
  for (int i = 0; i < 40; ++i) points.push_back(random_point(space, random));
  const std::vector<Sample> samples = measure(evaluator, points);
  const Surrogate surrogate(space, single_increases(space, samples), samples);
  Surrogate::Walk walk(surrogate, random_point(space, random));
  for (int step = 0; step < 200; ++step) {
    const auto i = static_cast<std::size_t>(random.below(kVariables));
    const std::size_t j = (i + 1 + static_cast<std::size_t>(random.below(kVariables - 1))) % kVariables;
    const auto level = static_cast<std::uint8_t>(random.below(3));
    const auto other = static_cast<std::uint8_t>(random.below(3));
    Point one = walk.point();
    one[i] = level;
    Point two = one;
    two[j] = other;
    EXPECT_NEAR(walk.with(i, level) / surrogate.predict(one), 1, 1e-9);
    EXPECT_NEAR(walk.with(i, level, j, other) / surrogate.predict(two), 1, 1e-9);
    walk.set(i, level);
    EXPECT_NEAR(walk.divergence() / surrogate.predict(one), 1, 1e-9);
  }
}

TEST(SamplesToLearn, AreSingleChangesAndThoseNearestTheFront) {
  const SearchSpace space = made_space(kVariables);
  const SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  Random random(9);
  std::vector<Point> points = single_changes(space);
  for (int i = 0; i < 200; ++i) points.push_back(random_point(space, random));
  std::vector<Sample> samples = measure(evaluator, points);
  for (std::size_t i = 60; i < 80; ++i) samples[i].divergence = 50;  // far from the front
  EXPECT_EQ(samples_to_learn(space, samples, samples.size()).size(), samples.size());

  const std::vector<Sample> learnt = samples_to_learn(space, samples, 100);
  ASSERT_EQ(learnt.size(), 100U);
  const std::size_t singles = single_changes(space).size();
  for (std::size_t i = 0; i < singles; ++i) EXPECT_EQ(learnt[i].point, samples[i].point);
  std::set<Point, PointLess> kept;
  for (const Sample& sample : learnt) {
    EXPECT_LT(sample.divergence, 50);
    kept.insert(sample.point);
  }
  std::vector<Outcome> outcomes;
  for (const Sample& sample : samples) outcomes.push_back({space.bits(sample.point), sample.divergence});
  for (const std::size_t i : front(outcomes)) EXPECT_TRUE(kept.contains(samples[i].point));
  // In their order.
  auto at = samples.begin();
  for (const Sample& sample : learnt) {
    at = std::ranges::find(at, samples.end(), sample.point, &Sample::point);
    ASSERT_NE(at, samples.end());
  }
  // Single changes leave half of the places to others.
  const std::vector<Sample> few = samples_to_learn(space, samples, 20);
  ASSERT_EQ(few.size(), 20U);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(few[i].point, samples[i].point);
}

}  // namespace
}  // namespace knapsaq
