#include "knapsaq/search/goal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "made_space.h"

namespace knapsaq {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Measurement measured(double perplexity, double kl = 0.1) {
  Measurement measurement;
  measurement.loss = std::log(perplexity);
  measurement.kl = kl;
  return measurement;
}

/// Variables with these levels: {bytes, error}.
SearchSpace space_of(const std::vector<std::vector<std::pair<std::uint64_t, double>>>& variables) {
  SearchSpace space;
  for (const auto& levels : variables) {
    Variable& variable = space.variables.emplace_back();
    for (const auto& [bytes, error] : levels)
      variable.levels.push_back(
          {variable.levels.size(), bytes, 2.0 + static_cast<double>(variable.levels.size()), error});
  }
  return space;
}

TEST(PaperGoal, IsThePapersFormula) {
  // Section 5.2's allocation: 32 bits in all.
  const SearchSpace space = made_space(12);
  const Point point = {0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 2};
  EXPECT_EQ(sum_bits(space, point), 32);
  EXPECT_DOUBLE_EQ(paper_fitness(50, 32), 0.625);
  EXPECT_DOUBLE_EQ(paper_goal(space)->value(point, measured(50)), -0.625);
}

TEST(PaperGoal, FailedEvaluationsAreWorthNothing) {
  const SearchSpace space = made_space(3);
  const auto goal = paper_goal(space);
  const Point point = space.smallest();
  Measurement failed = measured(10);
  for (const double loss : {kNan, std::numeric_limits<double>::infinity(), 1e4}) {
    failed.loss = loss;
    EXPECT_EQ(goal->value(point, failed), 0);
  }
  EXPECT_LT(goal->value(point, measured(1e9)), 0);
}

TEST(BudgetGoal, PointsOverTheBudgetNeverWin) {
  const SearchSpace space = space_of({{{10, 5}, {20, 2}, {40, 0}}, {{10, 5}, {20, 2}, {40, 0}}});
  const auto goal = budget_goal(space, of_linears(40), Divergence::kl);
  EXPECT_EQ(goal->value({1, 1}, measured(10, 3.0)), 3.0);
  EXPECT_GE(goal->value({1, 2}, measured(10, 0.0)), kWorthless);
  EXPECT_LT(goal->value({1, 2}, measured(10, 0.0)), goal->value({2, 2}, measured(10, 0.0)));
  EXPECT_LT(goal->value({0, 0}, measured(10, 1e4)), goal->value({1, 2}, measured(10, 0.0)));
  EXPECT_GE(goal->value({0, 0}, measured(10, kNan)), kWorthless);
  // The divergence that was asked for.
  Measurement both = measured(10, 3.0);
  both.jsd = 0.5;
  EXPECT_EQ(budget_goal(space, of_linears(40), Divergence::jsd)->value({0, 0}, both), 0.5);
}

TEST(MakeGoal, ByName) {
  const SearchSpace space = made_space(2);
  EXPECT_LT(make_goal("paper", space, {}, Divergence::kl)->value({0, 0}, measured(10)), 0);
  EXPECT_EQ(make_goal("budget", space, of_linears(1 << 30), Divergence::kl)->value({0, 0}, measured(10)),
            0.1);
  EXPECT_THROW(make_goal("budget", space, {}, Divergence::kl), UsageError);
  EXPECT_THROW(make_goal("ppl", space, of_linears(5), Divergence::kl), UsageError);
}

TEST(Repair, LowersWhatLosesLeastPerByte) {
  // Per byte: first variable 3/10 and 2/20, second 1/10 and 4/20, third has no choice.
  const SearchSpace space = space_of({{{10, 5}, {20, 2}, {40, 0}}, {{10, 5}, {20, 4}, {40, 0}}, {{100, 9}}});
  Random random(1);
  const auto repaired = [&](std::uint64_t budget) {
    Point point = {2, 2, 0};
    Repair(space, of_linears(budget), 0)(point, random);
    return point;
  };
  EXPECT_EQ(repaired(180), (Point{2, 2, 0}));
  EXPECT_EQ(repaired(179), (Point{1, 2, 0}));
  // 5/30 for the second's way down to the smallest beats 4/20 to the next level.
  EXPECT_EQ(repaired(159), (Point{1, 0, 0}));
  EXPECT_EQ(repaired(120), (Point{0, 0, 0}));
}

TEST(Repair, EndsWithinTheBudgetAndOnlyLowers) {
  Random random(5);
  for (int round = 0; round < 300; ++round) {
    const SearchSpace space =
        made_space(1 + random.below(30), "hqq:b2g128,hqq:b3g64,hqq:b3g128,hqq:b4g128", random.bits());
    const std::uint64_t least = space.linear_bytes(space.smallest());
    const std::uint64_t most = space.linear_bytes(space.largest());
    const std::uint64_t budget = least + random.below(most - least + 1);
    const Point before = random_point(space, random);
    for (const std::size_t candidates : {std::size_t{0}, std::size_t{1}, std::size_t{4}}) {
      const Repair repair(space, of_linears(budget), candidates);
      Point point = before;
      Random draw(7);
      repair(point, draw);
      EXPECT_LE(space.linear_bytes(point), budget);
      for (std::size_t i = 0; i < point.size(); ++i) EXPECT_LE(point[i], before[i]);
      if (space.linear_bytes(before) <= budget) {
        EXPECT_EQ(point == before, true);
      }
      Point again = before;
      Random same(7);
      repair(again, same);
      EXPECT_EQ(point == again, true);
    }
  }
}

TEST(Repair, RandomLoweringReachesEverything) {
  const SearchSpace space = space_of({{{10, 5}, {20, 0}}, {{10, 50}, {20, 0}}, {{10, 500}, {20, 0}}});
  Random random(1);
  std::set<std::size_t> lowered;
  for (int round = 0; round < 60; ++round) {
    Point point = {1, 1, 1};
    Repair(space, of_linears(50), 1)(point, random);
    lowered.insert(static_cast<std::size_t>(std::find(point.begin(), point.end(), 0) - point.begin()));
  }
  EXPECT_EQ(lowered.size(), 3U);
}

TEST(Repair, LevelsOfEqualBytesAndUnknownErrors) {
  const SearchSpace equal = space_of({{{10, 3}, {20, 2}, {20, 1}}});
  const SearchSpace unknown = space_of({{{10, kNan}, {20, kNan}}, {{10, kNan}, {20, kNan}}});
  Random random(1);
  for (const std::size_t candidates : {std::size_t{0}, std::size_t{1}, std::size_t{4}}) {
    Point point = {2};
    Repair(equal, of_linears(19), candidates)(point, random);
    EXPECT_EQ(point, Point{0});
    point = {1, 1};
    Repair(unknown, of_linears(30), candidates)(point, random);
    EXPECT_EQ(unknown.linear_bytes(point), 30U);
  }
}

TEST(Repair, RefusesABudgetBelowTheSmallest) {
  const SearchSpace space = space_of({{{10, 5}, {20, 2}}, {{15, 5}}});
  EXPECT_NO_THROW(Repair(space, of_linears(25), 0));
  try {
    Repair(space, of_linears(24), 0);
    FAIL();
  } catch (const InfeasibleError& error) {
    EXPECT_EQ(error.smallest(), 25);
  }
}

}  // namespace
}  // namespace knapsaq
