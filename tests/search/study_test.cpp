#include "knapsaq/search/study.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/strategies.h"
#include "made_space.h"
#include "scratch.h"
#include "synthetic_evaluator.h"

namespace knapsaq {
namespace {

// Few: every measurement is flushed to the disk.
constexpr std::int64_t kRepeats = 3;
constexpr std::int64_t kEvaluations = 25;

const StrategyInfo& info_of(std::string_view name) {
  static const std::vector<StrategyInfo> all = {ga_strategy(), pso_strategy(), sa_strategy(), de_strategy()};
  return *std::find_if(all.begin(), all.end(), [&](const StrategyInfo& info) { return info.name == name; });
}

StudyStrategy entry(std::string_view name, const std::vector<std::string>& set = {}) {
  StudyStrategy strategy{&info_of(name), OptionValues(info_of(name).options)};
  for (const std::string& assignment : set) strategy.options.set(assignment);
  return strategy;
}

StudySettings settings_of(std::vector<StudyStrategy> strategies) {
  StudySettings settings;
  settings.strategies = std::move(strategies);
  settings.repeats = kRepeats;
  settings.evaluations = kEvaluations;
  settings.seed = 11;
  return settings;
}

class StudyTests : public testing::Test {
 protected:
  StudyTests() : space_(made_space(14)), evaluator_(space_) {
    setup_.space = &space_;
    setup_.windows = evaluator_.windows();
  }

  Study study(const StudySettings& settings, std::string_view name = "archive.db",
              const StudyListener& listener = {}) {
    Archive archive = Archive::create(scratch_.path() / name);
    return run_study(settings, setup_, evaluator_, archive, {}, listener);
  }

  Scratch scratch_;
  SearchSpace space_;
  SyntheticEvaluator evaluator_;
  StrategySetup setup_;
};

TEST_F(StudyTests, RunsAreDescribedByTheirBestPoints) {
  const StudySettings settings = settings_of({entry("ga"), entry("pso"), entry("sa"), entry("de")});
  const Study result = study(settings);
  ASSERT_EQ(result.groups.size(), 4U);
  EXPECT_EQ(result.tests.size(), 6U);
  EXPECT_EQ(result.tokens, evaluator_.windows() * evaluator_.targets());
  const auto goal = paper_goal(space_);
  for (const StudyGroup& group : result.groups) {
    ASSERT_EQ(std::ssize(group.runs), kRepeats);
    ASSERT_EQ(std::ssize(group.band), kEvaluations);
    for (std::size_t r = 0; r < kRepeats; ++r) {
      const StudyRun& run = group.runs[r];
      EXPECT_EQ(run.seed, 11 + r);
      ASSERT_EQ(std::ssize(run.curve), kEvaluations);
      EXPECT_TRUE(std::is_sorted(run.curve.rbegin(), run.curve.rend()));
      EXPECT_EQ(run.curve.back(), run.goal);
      const Measurement again = evaluator_.answer(run.point, {0, evaluator_.windows()});
      EXPECT_NEAR(goal->value(run.point, again), run.goal, 1e-12);
      EXPECT_NEAR(run.fitness, -run.goal, 1e-12);
      EXPECT_EQ(run.sum_bits, sum_bits(space_, run.point));
      EXPECT_EQ(run.bits.size(), 14U);
      EXPECT_EQ(run.bytes, space_.bytes(run.point));
      EXPECT_EQ(run.linear_bytes, space_.linear_bytes(run.point));
      EXPECT_EQ(run.distinct, kEvaluations);
      EXPECT_GT(run.full_passes, 0);
      EXPECT_TRUE(run.measurement.per_token.empty());
    }
    for (std::size_t q = 0; q < kEvaluations; ++q) {
      EXPECT_EQ(group.band[q].count, 3U);
      EXPECT_LE(group.band[q].lower, group.band[q].median);
    }
    EXPECT_EQ(group.band.back().median, group.goal.median);
    EXPECT_NEAR(group.fitness.mean, -group.goal.mean, 1e-12);
  }
}

TEST_F(StudyTests, IsTheSameFromAnotherArchiveAndAfterAnInterruption) {
  const StudySettings settings = settings_of({entry("ga"), entry("de")});
  const Study whole = study(settings);
  struct Interrupted {};
  int results = 0;
  const auto interrupt = [&](std::int64_t, std::int64_t, std::string_view, const SearchStatus&) {
    if (++results == 70) throw Interrupted();
  };
  EXPECT_THROW(study(settings, "second.db", interrupt), Interrupted);
  const std::int64_t before = evaluator_.calls();
  const Study resumed = study(settings, "second.db");
  EXPECT_LT(evaluator_.calls() - before, 2 * kRepeats * kEvaluations)
      << "what was measured was measured again";
  for (std::size_t g = 0; g < 2; ++g) {
    for (std::size_t r = 0; r < kRepeats; ++r) {
      EXPECT_EQ(whole.groups[g].runs[r].curve, resumed.groups[g].runs[r].curve);
      EXPECT_EQ(whole.groups[g].runs[r].point == resumed.groups[g].runs[r].point, true);
      EXPECT_EQ(whole.groups[g].runs[r].full_passes, resumed.groups[g].runs[r].full_passes);
    }
  }
  EXPECT_EQ(whole.tests[0].rank_sum.p, resumed.tests[0].rank_sum.p);
  const std::int64_t finished = evaluator_.calls();
  study(settings, "second.db");
  EXPECT_EQ(evaluator_.calls(), finished) << "a finished study needs no measurement";
}

TEST_F(StudyTests, RunsTakeTurns) {
  std::vector<std::string> order;
  std::int64_t last = -1;
  study(settings_of({entry("ga"), entry("sa")}), "archive.db",
        [&](std::int64_t run, std::int64_t runs, std::string_view strategy, const SearchStatus&) {
          EXPECT_EQ(runs, 6);
          if (run != last) order.emplace_back(strategy);
          last = run;
        });
  EXPECT_EQ(order, (std::vector<std::string>{"ga", "sa", "ga", "sa", "ga", "sa"}));
}

TEST_F(StudyTests, UnderABudgetEveryOutcomeFits) {
  StudySettings settings = settings_of({entry("ga"), entry("pso")});
  settings.goal = "budget";
  EXPECT_THROW(study(settings), UsageError);
  setup_.budget =
      of_linears((space_.linear_bytes(space_.smallest()) + space_.linear_bytes(space_.largest())) / 2);
  const Study result = study(settings);
  EXPECT_EQ(result.budget, setup_.budget);
  for (const StudyGroup& group : result.groups) {
    for (const StudyRun& run : group.runs) {
      EXPECT_LE(run.linear_bytes, setup_.budget->bytes);
      EXPECT_EQ(run.goal, run.measurement.kl);
    }
    EXPECT_EQ(group.divergence.median, group.goal.median);
  }
}

TEST_F(StudyTests, TestsSayWhoIsBetter) {
  // Hardly any selection against a good search: they have to differ.
  StudySettings settings = settings_of({entry("ga", {"tournament=1", "elitism=0"}), entry("sa")});
  settings.repeats = 5;
  settings.evaluations = 40;
  const Study result = study(settings);
  ASSERT_EQ(result.tests.size(), 1U);
  EXPECT_LT(result.tests[0].rank_sum.p, 0.05);
  EXPECT_LT(result.tests[0].a_better, 0.2);
  EXPECT_EQ(result.tests[0].rank_biserial, 2 * result.tests[0].a_better - 1);
  EXPECT_LT(result.groups[1].goal.median, result.groups[0].goal.median);
}

TEST_F(StudyTests, RefusesWhatIsNoStudy) {
  StudySettings settings = settings_of({entry("ga"), entry("ga")});
  EXPECT_THROW(study(settings), UsageError);
  settings = settings_of({});
  EXPECT_THROW(study(settings), UsageError);
  settings = settings_of({entry("ga")});
  settings.repeats = 1;
  EXPECT_THROW(study(settings), UsageError);
  settings.repeats = 2;
  settings.evaluations = 0;
  EXPECT_THROW(study(settings), UsageError);
  settings.evaluations = 10;
  settings.goal = "loss";
  EXPECT_THROW(study(settings), UsageError);
  EXPECT_NO_THROW(study(settings_of({entry("ga"), entry("ga", {"elitism=1"})})));
}

}  // namespace
}  // namespace knapsaq
