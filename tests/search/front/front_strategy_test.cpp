#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>

#include <gmock/gmock.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/strategy.h"
#include "search/made_space.h"
#include "search/synthetic_evaluator.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// What a strategy asked, in order, and what that was worth.
struct Course {
  std::vector<Point> points;
  std::vector<Outcome> outcomes;
  double passes = 0;
};

StrategySetup limited(std::int64_t evaluations, std::optional<std::uint64_t> budget = std::nullopt) {
  StrategySetup setup;
  setup.evaluations = evaluations;
  if (budget) setup.budget = of_linears(*budget);
  return setup;
}

using Broken = std::function<bool(const Point&)>;

/// `broken`: points whose divergence is no number.
Course follow(const SearchSpace& space, SyntheticEvaluator& evaluator, StrategySetup setup,
              const std::vector<std::string>& options = {}, std::string_view name = "front",
              const Broken& broken = {}) {
  setup.space = &space;
  setup.windows = evaluator.windows();
  setup.divergence = evaluator.divergence();
  const StrategyInfo& info = find_strategy(name);
  OptionValues values(info.options);
  for (const std::string& option : options) values.set(option);
  const std::unique_ptr<Strategy> strategy = info.make(setup, values);
  Course course;
  while (true) {
    const Batch batch = strategy->ask();
    if (batch.points.empty()) return course;
    course.passes += evaluator.cost(batch.points, {0, evaluator.windows()});
    std::vector<Measurement> measurements;
    for (const Point& point : batch.points) {
      measurements.push_back(evaluator.answer(point, {0, evaluator.windows()}));
      if (broken && broken(point)) measurements.back().kl = std::numeric_limits<double>::quiet_NaN();
      course.points.push_back(point);
      course.outcomes.push_back({space.bits(point), measurements.back().value(setup.divergence)});
    }
    strategy->tell(batch, measurements);
    for (const Note& note : strategy->notes())
      for (const auto& [key, value] : note.values) EXPECT_TRUE(std::isfinite(value)) << key;
  }
}

double volume(const SearchSpace& space, const SyntheticEvaluator& evaluator,
              const std::vector<Outcome>& outcomes) {
  const double worst =
      evaluator.answer(space.smallest(), {0, evaluator.windows()}).value(evaluator.divergence());
  return hypervolume(outcomes, {space.bits(space.smallest()), 0}, {space.bits(space.largest()), worst});
}

TEST(FrontStrategy, FindsNearlyTheWholeFrontOfASmallSpace) {
  const SearchSpace space = made_space(8);
  SyntheticEvaluator evaluator(space, {.interaction = 0.9});
  std::vector<Outcome> all;
  Point point(8, 0);
  for (std::size_t number = 0; number < 6561; ++number) {  // 3^8
    std::size_t rest = number;
    for (std::uint8_t& level : point) {
      level = static_cast<std::uint8_t>(rest % 3);
      rest /= 3;
    }
    all.push_back({space.bits(point), evaluator.answer(point, {0, evaluator.windows()}).kl});
  }
  const Course course = follow(space, evaluator, limited(120));
  EXPECT_LE(course.points.size(), 120u);
  EXPECT_GT(volume(space, evaluator, course.outcomes), 0.995 * volume(space, evaluator, all));
}

/// Fisher costs: the damage that a variable does alone, off by a factor of about 1.5 either way.
void tell_fisher(SearchSpace& space, const SyntheticEvaluator& evaluator) {
  Random random(3);
  const double base = evaluator.damage(space.largest());
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    const double factor = std::exp(0.4 * random.normal());
    std::vector<SpaceLevel>& levels = space.variables[v].levels;
    for (std::size_t l = 0; l < levels.size(); ++l) {
      Point point = space.largest();
      point[v] = static_cast<std::uint8_t>(l);
      levels[l].errors[static_cast<std::size_t>(Cost::fisher)] =
          factor * std::max(evaluator.damage(point) - base, 0.0) + 1e-6;
    }
  }
}

TEST(FrontStrategy, FisherCostsFindTheFrontWithFewerMeasurements) {
  SearchSpace space = made_space(8);
  SyntheticEvaluator evaluator(space, {.interaction = 0.3});
  tell_fisher(space, evaluator);
  std::vector<Outcome> all;
  Point point(8, 0);
  for (std::size_t number = 0; number < 6561; ++number) {  // 3^8
    std::size_t rest = number;
    for (std::uint8_t& level : point) {
      level = static_cast<std::uint8_t>(rest % 3);
      rest /= 3;
    }
    all.push_back({space.bits(point), evaluator.answer(point, {0, evaluator.windows()}).kl});
  }
  const double whole = volume(space, evaluator, all);
  const Course course = follow(space, evaluator, limited(60));
  EXPECT_LE(course.points.size(), 60u);
  EXPECT_GT(volume(space, evaluator, course.outcomes), 0.985 * whole);
  EXPECT_GT(volume(space, evaluator, follow(space, evaluator, limited(150)).outcomes), 0.998 * whole);

  SearchSpace large = made_space(42);
  SyntheticEvaluator of_large(large, {.interaction = 0.3});
  tell_fisher(large, of_large);
  const double with = volume(large, of_large, follow(large, of_large, limited(70)).outcomes);
  const double without =
      volume(large, of_large, follow(large, of_large, limited(70), {"prior=sweep"}).outcomes);
  EXPECT_GT(with, without);
}

TEST(FrontStrategy, FisherCostsNeedFewMeasurementsAtOneSize) {
  SearchSpace space = made_space(42);
  SyntheticEvaluator evaluator(space, {.interaction = 0.3});
  tell_fisher(space, evaluator);
  const std::uint64_t budget =
      (2 * space.linear_bytes(space.smallest()) + space.linear_bytes(space.largest())) / 3;
  const auto best = [&](const Course& course) {
    double least = 1e9;
    for (std::size_t i = 0; i < course.points.size(); ++i)
      if (space.linear_bytes(course.points[i]) <= budget)
        least = std::min(least, course.outcomes[i].divergence);
    return least;
  };
  const Course few = follow(space, evaluator, limited(0, budget));
  EXPECT_LE(few.points.size(), 31u);
  const Course sweep = follow(space, evaluator, limited(0, budget), {"prior=sweep"});
  EXPECT_GT(sweep.points.size(), 5 * few.points.size());
  EXPECT_LT(best(few), 1.1 * best(sweep));
}

TEST(FrontStrategy, FisherCostsAskTheSameWhateverTheThreadsAndCopeWithBrokenModels) {
  SearchSpace space = made_space(21);
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  tell_fisher(space, evaluator);
  work_with_threads(1);
  const Course one = follow(space, evaluator, {}, {"rounds=3"});
  work_with_threads(3);
  const Course three = follow(space, evaluator, {}, {"rounds=3"});
  work_with_threads(0);
  EXPECT_EQ(one.points, three.points);
  const Course broken =
      follow(space, evaluator, limited(60), {}, "front", [](const Point& point) { return point[4] == 0; });
  EXPECT_EQ(broken.points.size(), 60u);
  EXPECT_GE(
      follow(space, evaluator, limited(20), {}, "front", [](const Point&) { return true; }).points.size(),
      2u);
  EXPECT_THROW(follow(space, evaluator, {}, {"prior=none"}), UsageError);
}

TEST(FrontStrategy, BeatsRandomSearchByFarWithATenthOfItsMeasurements) {
  const SearchSpace space = made_space(42);
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  const Course own = follow(space, evaluator, limited(250));
  const Course random = follow(space, evaluator, limited(2500), {}, "random");
  EXPECT_GT(volume(space, evaluator, own.outcomes), 1.15 * volume(space, evaluator, random.outcomes));
}

TEST(FrontStrategy, AsksTheSameWhateverTheThreads) {
  const SearchSpace space = made_space(21);
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  work_with_threads(1);
  const Course one = follow(space, evaluator, {}, {"rounds=3"});
  work_with_threads(3);
  const Course three = follow(space, evaluator, {}, {"rounds=3"});
  work_with_threads(0);
  EXPECT_EQ(one.points, three.points);
}

TEST(FrontStrategy, NeverAsksAPointTwice) {
  const SearchSpace space = made_space(21);
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  const Course course = follow(space, evaluator, {}, {"rounds=4"});
  std::map<std::string, int> seen;
  for (const Point& point : course.points) ++seen[std::string(point.begin(), point.end())];
  for (const auto& [point, times] : seen) EXPECT_EQ(times, 1);
}

TEST(FrontStrategy, LeavesFewMeasurementsForTheFront) {
  const SearchSpace space = made_space(42);
  SyntheticEvaluator evaluator(space);
  const std::uint64_t budget =
      (space.linear_bytes(space.smallest()) + space.linear_bytes(space.largest())) / 2;
  const Course course = follow(space, evaluator, limited(30, budget));
  EXPECT_LE(course.points.size(), 30u);
  // Not only single changes of the largest point, of which none but the smallest fits.
  EXPECT_GT(std::ranges::count_if(course.points,
                                  [&](const Point& point) { return space.linear_bytes(point) <= budget; }),
            3);
}

TEST(FrontStrategy, LooksHarderAtTheBudget) {
  const SearchSpace space = made_space(42);
  SyntheticEvaluator evaluator(space, {.interaction = 0.9});
  const std::uint64_t budget =
      (space.linear_bytes(space.smallest()) + space.linear_bytes(space.largest())) / 2;
  const auto best = [&](const Course& course) {
    double least = 1e9;
    for (std::size_t i = 0; i < course.points.size(); ++i)
      if (space.linear_bytes(course.points[i]) <= budget)
        least = std::min(least, course.outcomes[i].divergence);
    return least;
  };
  const auto near = [&](const Course& course) {
    std::size_t count = 0;
    for (const Point& point : course.points) {
      const std::uint64_t bytes = space.linear_bytes(point);
      if (bytes <= budget && bytes > budget - budget / 50) ++count;
    }
    return count;
  };
  const Course with = follow(space, evaluator, limited(250, budget));
  const Course without = follow(space, evaluator, limited(250));
  EXPECT_GT(near(with), 2 * near(without));
  EXPECT_LE(best(with), best(without));
}

TEST(FrontStrategy, CopesWithOneVariableAndOneLevel) {
  const SearchSpace one = made_space(1);
  SyntheticEvaluator evaluator(one);
  EXPECT_LE(follow(one, evaluator, {}).points.size(), 4u);
  const SearchSpace fixed = made_space(3, "hqq:b4g128");
  SyntheticEvaluator of_fixed(fixed);
  EXPECT_LE(follow(fixed, of_fixed, {}).points.size(), 2u);
}

TEST(FrontStrategy, ModelsThatBreakDoNotBreakTheSearch) {
  const SearchSpace space = made_space(21);
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  const auto finite = [&](const Course& course) {
    std::size_t count = 0;
    for (const Outcome& outcome : course.outcomes) count += std::isfinite(outcome.divergence) ? 1U : 0U;
    return count;
  };
  // A variable that must not be at its lowest level: the search leaves it there only until it knows.
  const Course one =
      follow(space, evaluator, limited(200), {}, "front", [](const Point& point) { return point[4] == 0; });
  EXPECT_EQ(one.points.size(), 200u);
  EXPECT_GT(finite(one), 180u);
  const Course whole = follow(space, evaluator, limited(200));
  EXPECT_GT(volume(space, evaluator, one.outcomes), 0.8 * volume(space, evaluator, whole.outcomes));
  // The largest point itself; all points.
  const Course top = follow(space, evaluator, limited(100), {}, "front",
                            [&](const Point& point) { return point == space.largest(); });
  EXPECT_GT(finite(top), 43u);
  EXPECT_GE(
      follow(space, evaluator, limited(100), {}, "front", [](const Point&) { return true; }).points.size(),
      44u);
}

TEST(FrontStrategy, ChoosesAmongTwelveSchemes) {
  const SearchSpace space = made_space(14, "mxq");
  SyntheticEvaluator evaluator(space, {.interaction = 0.6});
  const Course own = follow(space, evaluator, limited(150));
  const Course random = follow(space, evaluator, limited(3000), {}, "random");
  EXPECT_GT(volume(space, evaluator, own.outcomes), volume(space, evaluator, random.outcomes));
}

}  // namespace
}  // namespace knapsaq
