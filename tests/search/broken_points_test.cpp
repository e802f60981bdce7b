// Every strategy among points whose model computes no finite numbers: they are kept as such, lose, and spoil
// nothing that is learnt from the others.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/search/front.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/run_search.h"
#include "scratch.h"
#include "search/made_space.h"
#include "search/synthetic_evaluator.h"

namespace knapsaq {
namespace {

using Broken = std::function<bool(const Point&)>;

class BreakingEvaluator : public SyntheticEvaluator {
 public:
  BreakingEvaluator(const SearchSpace& space, SyntheticOptions options, Broken broken, double value)
      : SyntheticEvaluator(space, options), broken_(std::move(broken)), value_(value) {}

  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override {
    SyntheticEvaluator::measure(points, windows, [&](std::size_t index, Measurement measurement) {
      if (broken_(points[index])) {
        measurement.kl = measurement.jsd = measurement.loss = value_;
        std::ranges::fill(measurement.per_token, static_cast<float>(value_));
      }
      done(index, std::move(measurement));
    });
  }

 private:
  Broken broken_;
  double value_;
};

struct Case {
  const char* name;
  std::function<Broken(const SearchSpace&)> broken;
  bool some_sound = true;
};

const Case kCases[] = {
    {"half",
     [](const SearchSpace&) -> Broken {
       return [](const Point& point) {
         std::size_t sum = 0;
         for (std::size_t v = 0; v < point.size(); ++v) sum += (v + 1) * point[v];
         return sum % 2 == 1;
       };
     }},
    {"low_levels",
     [](const SearchSpace&) -> Broken { return [](const Point& point) { return point[2] == 0; }; }},
    {"all_but_the_largest",
     [](const SearchSpace& space) -> Broken {
       return [top = space.largest()](const Point& point) { return point != top; };
     }},
    {"the_largest",
     [](const SearchSpace& space) -> Broken {
       return [top = space.largest()](const Point& point) { return point == top; };
     }},
    {"all", [](const SearchSpace&) -> Broken { return [](const Point&) { return true; }; }, false}};

class BrokenPoints : public ::testing::TestWithParam<std::string> {};

TEST_P(BrokenPoints, LoseAndSpoilNothing) {
  const StrategyInfo& info = find_strategy(GetParam());
  const SearchSpace space = made_space(9);
  SyntheticOptions options;
  options.windows = 2;
  options.targets = 8;
  for (const Case& one : kCases)
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
      for (const bool budget : {true, false}) {
        SCOPED_TRACE(std::string(one.name) + (std::isnan(value) ? ", NaN" : ", infinity") +
                     (budget ? ", budget" : ""));
        const Scratch scratch;
        const Broken broken = one.broken(space);
        BreakingEvaluator evaluator(space, options, broken, value);
        const std::unique_ptr<Goal> paper = paper_goal(space);
        StrategySetup setup;
        setup.space = &space;
        setup.windows = evaluator.windows();
        setup.seed = 3;
        setup.evaluations = 80;
        if (budget) {
          setup.budget =
              of_linears((space.linear_bytes(space.smallest()) + space.linear_bytes(space.largest())) / 2);
        } else {
          setup.goal = paper.get();
        }
        OptionValues values(info.options);
        if (info.name == "amq")
          for (const char* option : {"initial=20", "per-round=10"}) values.set(option);
        Archive archive = Archive::create(scratch / "archive.db");
        const SearchRecord record = archive.search(info.name, values.to_string(), setup.seed);
        const std::unique_ptr<Strategy> strategy = info.make(setup, values);
        ASSERT_NO_THROW(run_search(*strategy, setup, record, evaluator, archive));

        std::vector<Outcome> outcomes;
        std::size_t sound = 0;
        for (const Archive::Entry& entry : archive.entries(kSearchSet, setup.windows)) {
          EXPECT_EQ(entry.measurement.finite(), !broken(entry.point));
          sound += entry.measurement.finite();
          outcomes.push_back({space.bits(entry.point), entry.measurement.kl});
        }
        EXPECT_EQ(sound > 0, one.some_sound);
        EXPECT_EQ(front(outcomes).empty(), !one.some_sound);
        for (const Step& step : archive.steps(record.id))
          EXPECT_TRUE(!step.predicted || std::isfinite(*step.predicted));
        for (const StoredNote& note : archive.notes(record.id))
          for (const auto& [name, number] : note.note.values) EXPECT_TRUE(std::isfinite(number)) << name;
      }
}

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const StrategyInfo& info : strategies()) result.emplace_back(info.name);
  return result;
}

INSTANTIATE_TEST_SUITE_P(Strategies, BrokenPoints, ::testing::ValuesIn(names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace knapsaq
