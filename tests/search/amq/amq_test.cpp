#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/strategies.h"
#include "search/made_space.h"
#include "search/synthetic_evaluator.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// What a whole search asked and noted.
struct Course {
  std::vector<Batch> batches;
  std::vector<Note> notes;
  std::vector<Point> points;
  std::vector<Outcome> outcomes;
  std::vector<std::int64_t> planned;  ///< before every batch, while it is out, and in the end
};

using Damage = std::function<double(const Point&)>;

Course search(const SearchSpace& space, const Damage& damage, const std::vector<std::string>& settings,
              std::int64_t evaluations = 0, std::uint64_t seed = 1) {
  const StrategyInfo info = amq_strategy();
  OptionValues options(info.options);
  for (const std::string& setting : settings) options.set(setting);
  StrategySetup setup;
  setup.space = &space;
  setup.divergence = Divergence::jsd;
  setup.evaluations = evaluations;
  setup.seed = seed;
  const std::unique_ptr<Strategy> strategy = info.make(setup, options);
  Course course;
  course.planned.push_back(strategy->planned());
  for (Batch batch = strategy->ask(); !batch.points.empty(); batch = strategy->ask()) {
    course.planned.push_back(strategy->planned());
    std::vector<Measurement> measurements(batch.points.size());
    for (std::size_t i = 0; i < batch.points.size(); ++i) {
      measurements[i].kl = -1;  // not what it was told to look at
      measurements[i].jsd = damage(batch.points[i]);
      course.points.push_back(batch.points[i]);
      course.outcomes.push_back({space.bits(batch.points[i]), measurements[i].jsd});
    }
    strategy->tell(batch, measurements);
    course.planned.push_back(strategy->planned());
    for (Note& note : strategy->notes()) course.notes.push_back(std::move(note));
    course.batches.push_back(std::move(batch));
  }
  return course;
}

double value(const Note& note, std::string_view name) {
  for (const auto& [key, number] : note.values)
    if (key == name) return number;
  ADD_FAILURE() << "no " << name;
  return 0;
}

/// Every point of a space.
std::vector<Outcome> all_outcomes(const SearchSpace& space, const Damage& damage) {
  std::vector<Outcome> outcomes;
  Point point(space.variables.size(), 0);
  while (true) {
    outcomes.push_back({space.bits(point), damage(point)});
    std::size_t v = 0;
    while (v < point.size() && point[v] + 1u == space.variables[v].levels.size()) point[v++] = 0;
    if (v == point.size()) return outcomes;
    ++point[v];
  }
}

double share(const SearchSpace& space, const Damage& damage, const std::vector<Outcome>& outcomes) {
  return hypervolume(outcomes, {space.bits(space.smallest()), 0},
                     {space.bits(space.largest()), damage(space.smallest())});
}

const std::vector<std::string> kReduced = {"initial=30", "rounds=16", "per-round=10", "population=60"};

TEST(Amq, ReachesTheTrueFrontOfASmallSpace) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const SearchSpace space = made_space(9, kMadeMenu, seed);  // 19,683 points
    SyntheticOptions options;
    options.seed = seed;
    const SyntheticEvaluator evaluator(space, options);
    const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
    const std::vector<Outcome> all = all_outcomes(space, damage);
    const double best = share(space, damage, all);

    std::vector<std::string> settings = kReduced;
    settings.emplace_back("threshold=0");  // nothing fixed: the whole front can be reached
    const Course course = search(space, damage, settings, 0, seed);
    EXPECT_LE(course.points.size(), 190u);  // 1 % of the space
    EXPECT_GE(share(space, damage, course.outcomes), 0.995 * best);
    // Its true points among those found.
    std::set<std::pair<double, double>> front_points;
    for (const std::size_t i : front(all)) front_points.emplace(all[i].size, all[i].divergence);
    std::size_t found = 0;
    for (const std::size_t i : front(course.outcomes))
      found += front_points.count({course.outcomes[i].size, course.outcomes[i].divergence});
    EXPECT_GE(found, 15u);

    // The same number of random points does not.
    Random random(seed);
    std::vector<Outcome> drawn;
    while (drawn.size() < course.points.size()) {
      const Point point = random_point(space, random);
      drawn.push_back({space.bits(point), damage(point)});
    }
    EXPECT_LT(share(space, damage, drawn), 0.98 * best);
  }
}

TEST(Amq, ThePerceptronWillDoToo) {
  const SearchSpace space = made_space(7);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
  const double best = share(space, damage, all_outcomes(space, damage));
  std::vector<std::string> settings = kReduced;
  for (const char* const more : {"threshold=0", "predictor=mlp", "mlp-width=32", "mlp-first-steps=400"})
    settings.emplace_back(more);
  EXPECT_GE(share(space, damage, search(space, damage, settings).outcomes), 0.98 * best);
}

TEST(Amq, AsksWhatThePaperAsks) {
  const SearchSpace space = made_space(21);
  const SyntheticEvaluator evaluator(space);
  const Course course = search(space, [&](const Point& point) { return evaluator.damage(point); },
                               {"rounds=3", "threshold=1000"});
  ASSERT_EQ(course.batches.size(), 5u);
  // Sensitivity: each variable alone at its smallest level; then the smallest point.
  ASSERT_EQ(course.batches[0].points.size(), 22u);
  EXPECT_EQ(course.batches[0].phase, "sensitivity");
  for (std::size_t v = 0; v < 21; ++v) {
    Point expected = space.largest();
    expected[v] = 0;
    EXPECT_EQ(course.batches[0].points[v], expected);
  }
  EXPECT_EQ(course.batches[0].points[21], space.smallest());
  // Initial: uniform points, then different ones.
  EXPECT_EQ(course.batches[1].points.size(), 250u);
  EXPECT_EQ(course.batches[1].phase, "initial");
  for (std::uint8_t level = 0; level < 3; ++level)
    EXPECT_EQ(course.batches[1].points[level], Point(21, level));
  std::set<Point, PointLess> different;
  for (std::size_t batch = 1; batch < 5; ++batch) {
    EXPECT_TRUE(course.batches[batch].predicted.empty() == (batch == 1));
    for (const Point& point : course.batches[batch].points) EXPECT_TRUE(different.insert(point).second);
  }
  EXPECT_EQ(different.size(), 400u);
  EXPECT_EQ(course.batches[2].phase, "round 1");
  EXPECT_EQ(course.batches[2].predicted.size(), 50u);

  std::vector<Note> rounds;
  for (const Note& note : course.notes)
    if (note.kind == "round") rounds.push_back(note);
  ASSERT_EQ(rounds.size(), 3u);
  EXPECT_EQ(value(rounds[2], "round"), 3);
  EXPECT_EQ(value(rounds[2], "evaluations"), 422);
  EXPECT_GE(value(rounds[2], "hypervolume"), value(rounds[0], "hypervolume"));
  EXPECT_DOUBLE_EQ(value(rounds[2], "hypervolume"),
                   share(
                       space, [&](const Point& point) { return evaluator.damage(point); }, course.outcomes));
  EXPECT_GT(value(rounds[2], "spearman"), 0.9);
  EXPECT_GT(value(rounds[2], "kendall"), 0.7);
}

TEST(Amq, SensitiveVariablesStayAtTheirLargestLevel) {
  const SearchSpace space = made_space(10);
  const Damage damage = [](const Point& point) {
    double total = 0;
    for (std::size_t v = 0; v < point.size(); ++v)
      total += (v == 3 || v == 7 ? 2.5 : 1 + 0.01 * static_cast<double>(v)) * std::pow(0.25, point[v]);
    return total - 10 * std::pow(0.25, 2);  // the largest point's own does not hide the differences
  };
  const Course course = search(space, damage, kReduced);
  for (std::size_t batch = 1; batch < course.batches.size(); ++batch)
    for (const Point& point : course.batches[batch].points) {
      EXPECT_EQ(point[3], 2);
      EXPECT_EQ(point[7], 2);
    }
  std::vector<double> pruned;
  for (const Note& note : course.notes) {
    if (note.kind != "sensitivity") continue;
    if (value(note, "pruned") != 0) pruned.push_back(value(note, "variable"));
    Point point = space.largest();
    point[static_cast<std::size_t>(value(note, "variable"))] = 0;
    EXPECT_EQ(value(note, "divergence"), damage(point));
  }
  EXPECT_THAT(pruned, testing::ElementsAre(3, 7));

  std::vector<std::string> never = kReduced;
  never.emplace_back("threshold=3");
  std::set<std::uint8_t> levels;
  for (const Point& point : search(space, damage, never).points) levels.insert(point[3]);
  EXPECT_EQ(levels.size(), 3u);
}

TEST(Amq, SameSeedSameQuestionsWhateverTheThreads) {
  const SearchSpace space = made_space(14);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
  for (const char* const predictor : {"predictor=rbf", "predictor=mlp"}) {
    std::vector<std::string> settings = kReduced;
    for (const char* const more : {predictor, "rounds=3", "mlp-first-steps=50", "mlp-more-steps=10"})
      settings.emplace_back(more);
    work_with_threads(1);
    const Course one = search(space, damage, settings);
    work_with_threads(2);
    const Course two = search(space, damage, settings);
    work_with_threads(0);
    EXPECT_EQ(one.points, two.points);
    ASSERT_EQ(one.batches.size(), two.batches.size());
    for (std::size_t i = 0; i < one.batches.size(); ++i)
      EXPECT_EQ(one.batches[i].predicted, two.batches[i].predicted);
    EXPECT_NE(search(space, damage, settings, 0, 2).points, one.points);
  }
}

TEST(Amq, FaithfulAndMendedGoDifferentWays) {
  const SearchSpace space = made_space(14);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
  std::vector<std::string> settings = kReduced;
  const Course mended = search(space, damage, settings);
  settings.emplace_back("faithful=1");
  const Course faithful = search(space, damage, settings);
  EXPECT_NE(mended.points, faithful.points);
  EXPECT_EQ(mended.batches[1].points, faithful.batches[1].points);  // only the rounds differ
}

TEST(Amq, EndsAtTheLimitAndWhereNothingIsLeft) {
  const SearchSpace space = made_space(14);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
  for (const std::int64_t limit : {1, 14, 15, 40, 47, 60})
    EXPECT_EQ(std::ssize(search(space, damage, kReduced, limit).points), limit);

  const SearchSpace tiny = made_space(3);  // 27 points
  const SyntheticEvaluator tiny_evaluator(tiny);
  const Course course = search(tiny, [&](const Point& point) { return tiny_evaluator.damage(point); },
                               {"threshold=0", "initial=10"});
  std::set<Point, PointLess> different(course.points.begin(), course.points.end());
  EXPECT_EQ(different.size(), 27u);
  EXPECT_EQ(course.points.size(), 27u);
}

TEST(Amq, FewInitialPointsAreMadeEnoughForThePredictor) {
  const SearchSpace space = made_space(40);
  const SyntheticEvaluator evaluator(space);
  const Course course = search(space, [&](const Point& point) { return evaluator.damage(point); },
                               {"threshold=0", "initial=5", "rounds=1"});
  EXPECT_EQ(course.batches[0].points.size(), 42u);
}

TEST(Amq, TellsHowManyPointsItWillAskFor) {
  const SearchSpace space = made_space(12);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) { return evaluator.damage(point); };
  for (const std::int64_t evaluations : {0, 5, 60}) {
    const Course course =
        search(space, damage, {"initial=30", "rounds=4", "per-round=6", "generations=3"}, evaluations);
    EXPECT_EQ(course.points.size(), evaluations > 0 ? static_cast<std::size_t>(evaluations) : 67u);
    for (const std::int64_t planned : course.planned) EXPECT_EQ(planned, std::ssize(course.points));
  }
}

TEST(Amq, VariablesOfOneLevelAreLeftAlone) {
  SearchSpace space = made_space(6);
  space.variables[2].levels.resize(1);
  space.variables[4].levels.erase(space.variables[4].levels.begin());
  const Damage damage = [](const Point& point) {
    double total = 0;
    for (std::size_t v = 0; v < point.size(); ++v)
      total += (1 + 0.1 * static_cast<double>(v)) * std::pow(0.25, point[v]);
    return total;
  };
  const Course course = search(space, damage, kReduced);
  EXPECT_EQ(course.batches[0].points.size(), 6u);  // five variables and the smallest point
  for (const Point& point : course.points) {
    EXPECT_EQ(point[2], 0);
    EXPECT_LT(point[4], 2);
  }

  for (Variable& variable : space.variables) variable.levels.resize(1);
  EXPECT_EQ(search(space, damage, kReduced).points.size(), 1u);
}

TEST(Amq, ModelsThatBreakDoNotBreakTheSearch) {
  const SearchSpace space = made_space(8);
  const SyntheticEvaluator evaluator(space);
  const Damage damage = [&](const Point& point) {
    return point[0] == 0 ? std::numeric_limits<double>::quiet_NaN() : evaluator.damage(point);
  };
  const Course course = search(space, damage, kReduced);
  EXPECT_EQ(value(course.notes[0], "pruned"), 1);  // what breaks the model is sensitive
  for (const Note& note : course.notes)
    for (const auto& [name, number] : note.values) EXPECT_TRUE(std::isfinite(number)) << name;
  std::vector<std::string> settings = kReduced;
  settings.emplace_back("threshold=0");
  EXPECT_GT(search(space, damage, settings).points.size(), 100u);
}

TEST(Amq, RefusesWhatHasNoMeaning) {
  const SearchSpace space = made_space(4);
  const Damage damage = [](const Point&) { return 1.0; };
  for (const char* const wrong : {"predictor=gp", "mutation=2", "crossover=-1", "threshold=-1", "per-round=0",
                                  "population=1", "faithful=yes", "damping=-1"})
    EXPECT_THROW(search(space, damage, {wrong}), UsageError) << wrong;
}

}  // namespace
}  // namespace knapsaq
