#include "knapsaq/search/front/surrogate_front.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "knapsaq/search/point_less.h"
#include "search/made_space.h"
#include "search/synthetic_evaluator.h"

namespace knapsaq {
namespace {

/// Fitted to the largest point and the lowest level of every variable alone.
Surrogate made_surrogate(const SearchSpace& space) {
  const SyntheticEvaluator evaluator(space);
  std::vector<Sample> samples = {{space.largest(), evaluator.damage(space.largest())}};
  for (std::size_t i = 0; i < space.variables.size(); ++i) {
    Point point = space.largest();
    point[i] = 0;
    samples.push_back({point, evaluator.damage(point)});
  }
  return {space, single_increases(space, samples), samples};
}

TEST(Neighbours, AreTheMostPromisingOfEachKindAndNoneTwice) {
  const SearchSpace space = made_space(112);
  const Surrogate surrogate = made_surrogate(space);
  const Point middle(space.variables.size(), 1);
  const std::vector<Proposal> near = neighbours(space, surrogate, std::vector<Point>{middle, middle});
  EXPECT_LE(near.size(), 256U) << "of some 9 000 pairs";
  EXPECT_GT(near.size(), 84U);
  const std::uint64_t bytes = space.linear_bytes(middle);
  std::set<Point, PointLess> seen;
  std::size_t kinds[2] = {};
  for (const Proposal& one : near) {
    EXPECT_TRUE(seen.insert(one.point).second);
    EXPECT_EQ(one.bytes, space.linear_bytes(one.point));
    EXPECT_NEAR(one.predicted / surrogate.predict(one.point), 1, 1e-9);
    if (one.bytes != bytes) ++kinds[one.bytes > bytes ? 0 : 1];
  }
  EXPECT_GT(kinds[0], 20U);
  EXPECT_GT(kinds[1], 20U);
  // No single change that makes the point larger saves more per byte than the best that was kept.
  const auto rate = [&](const Point& point) {
    return (surrogate.predict(point) - surrogate.predict(middle)) /
           (static_cast<double>(space.linear_bytes(point)) - static_cast<double>(bytes) + 1);
  };
  double least = INFINITY;
  for (const Proposal& one : near)
    if (one.bytes > bytes) least = std::min(least, rate(one.point));
  for (std::size_t i = 0; i < middle.size(); ++i) {
    Point up = middle;
    up[i] = 2;
    EXPECT_GE(rate(up), least * (1 + 1e-9));
  }
}

TEST(DropRepetitions, LeavesTheFirst) {
  std::vector<Proposal> proposals = {{{2, 1}, 5, 1}, {{0, 1}, 6, 2}, {{2, 1}, 7, 3}, {{1, 1}, 8, 4}};
  drop_repetitions(proposals);
  ASSERT_EQ(proposals.size(), 3U);
  EXPECT_EQ(proposals[0].bytes, 5U);
  EXPECT_EQ(proposals[1].bytes, 6U);
  EXPECT_EQ(proposals[2].bytes, 8U);
  EXPECT_EQ(proposals[2].point, (Point{1, 1}));
}

}  // namespace
}  // namespace knapsaq
