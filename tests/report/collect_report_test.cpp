#include "knapsaq/report/collect_report.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "scratch.h"
#include "search/made_space.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kWindows = 4;
constexpr std::int64_t kTargets = 63;

Measurement measured(double kl, std::int64_t windows = kWindows) {
  Measurement result;
  result.windows = windows;
  result.tokens = windows * kTargets;
  result.kl = kl;
  result.loss = 4 + kl;
  result.agreement = 0.5;
  return result;
}

/// A run in the making: points with the divergences that a test wants them to have.
class MadeArchive {
 public:
  MadeArchive() : space_(made_space(14)), archive_(Archive::create(scratch_ / "archive.db")) {}

  const SearchSpace& space() const { return space_; }
  Archive& archive() { return archive_; }

  Step step(const Point& point, double kl, const std::string& phase, std::int64_t windows = kWindows) {
    archive_.add(kSearchSet, point, measured(kl, windows), 0.5);
    Step result;
    result.phase = phase;
    result.point = point;
    result.cost = 0.25;
    result.measurement = measured(kl, windows);
    return result;
  }

  std::int64_t add(const std::string& strategy, std::vector<Step> steps, const std::vector<Note>& notes = {},
                   std::uint64_t seed = 1) {
    const std::int64_t id = archive_.search(strategy, "", seed).id;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      steps[i].search = id;
      steps[i].ordinal = static_cast<std::int64_t>(i);
    }
    archive_.add_batch(id, 0, steps, notes);
    return id;
  }

  ReportData collect(const std::string& folder = "RUN") const {
    ReportSources sources;
    sources.archive = &archive_;
    sources.space = &space_;
    sources.windows = kWindows;
    sources.tokens = kWindows * kTargets;
    sources.run = folder;
    return collect_report(std::move(sources));
  }

 private:
  Scratch scratch_;
  SearchSpace space_;
  Archive archive_;
};

TEST(CollectReport, OfARunWithoutMeasurements) {
  MadeArchive run;
  const ReportData nothing = run.collect();
  EXPECT_FALSE(nothing.running);
  EXPECT_TRUE(nothing.front.empty());
  EXPECT_EQ(nothing.linears.size(), 14u);
  EXPECT_EQ(nothing.variables.size(), 14u);

  run.archive().search("front", "", 1);
  const ReportData begun = run.collect();
  EXPECT_TRUE(begun.running);
  ASSERT_EQ(begun.searches.size(), 1u);
  EXPECT_TRUE(begun.searches[0].progress.empty());
  EXPECT_EQ(begun.hypervolume, 0);
}

TEST(CollectReport, FrontsAndHypervolumeAreThoseOfFrontAndHypervolume) {
  MadeArchive run;
  Random random(5);
  std::vector<Step> steps = {run.step(run.space().smallest(), 2, "initial"),
                             run.step(run.space().largest(), 0.01, "initial")};
  std::vector<Outcome> outcomes = {{run.space().bits(run.space().smallest()), 2},
                                   {run.space().bits(run.space().largest()), 0.01}};
  for (int i = 0; i < 400; ++i) {
    const Point point = random_point(run.space(), random);
    const double kl = std::exp(3 - run.space().bits(point)) * random.uniform();
    steps.push_back(run.step(point, kl, "round 1"));
    outcomes.push_back({run.space().bits(point), kl});
  }
  run.archive().finish(run.add("amq", steps));
  const ReportData data = run.collect();
  EXPECT_FALSE(data.running);
  ASSERT_EQ(data.searches.size(), 1u);
  const ReportSearch& search = data.searches[0];
  EXPECT_EQ(search.front, data.front);
  std::vector<Point> expected;
  for (const std::size_t i : front(outcomes)) expected.push_back(steps[i].point);
  std::vector<Point> found;
  for (const std::size_t i : data.front) {
    found.push_back(data.points[i].point);
    EXPECT_EQ(data.points[i].bytes, run.space().bytes(data.points[i].point));
  }
  EXPECT_EQ(found, expected);
  const Outcome ideal = {outcomes[0].size, 0};
  const Outcome reference = {outcomes[1].size, 2};
  EXPECT_NEAR(data.hypervolume, hypervolume(outcomes, ideal, reference), 1e-12);
  ASSERT_FALSE(search.progress.empty());
  EXPECT_EQ(search.progress.back().evaluations, 402);
  EXPECT_NEAR(search.progress.back().hypervolume, data.hypervolume, 1e-12);
  EXPECT_NEAR(search.progress.back().full_passes, 402 * 0.25, 1e-9);
  for (std::size_t i = 1; i < search.progress.size(); ++i)
    EXPECT_GE(search.progress[i].hypervolume, search.progress[i - 1].hypervolume - 1e-12);
  ASSERT_EQ(search.phases.size(), 2u);
  EXPECT_EQ(search.phases[0].first, "initial");
  EXPECT_EQ(search.phases[1].first, "round");
  EXPECT_NEAR(search.phases[1].second, 100, 1e-9);
  EXPECT_NEAR(search.seconds, 402 * 0.5, 1e-6);
}

TEST(CollectReport, PointsOfFewerWindowsAreOnNoFront) {
  MadeArchive run;
  Random random(1);
  const Point point = random_point(run.space(), random);
  run.add("front", {run.step(point, 1e-6, "race", 1), run.step(point, 0.2, "race")});
  const ReportData data = run.collect();
  ASSERT_EQ(data.points.size(), 2u);
  ASSERT_EQ(data.front.size(), 1u);
  EXPECT_EQ(data.points[data.front[0]].measurement.windows, kWindows);
}

TEST(CollectReport, WhatTwoSearchesAskedForIsOnePoint) {
  MadeArchive run;
  const std::vector<Step> steps = {run.step(run.space().smallest(), 1, "initial")};
  run.add("ga", steps, {}, 1);
  run.add("ga", steps, {}, 2);
  const ReportData data = run.collect();
  EXPECT_EQ(data.points.size(), 1u);
  ASSERT_EQ(data.searches.size(), 2u);
  EXPECT_EQ(data.searches[1].steps[0].point, data.searches[0].steps[0].point);
  EXPECT_EQ(data.searches[0].seconds, 0.5);
  EXPECT_EQ(data.searches[1].seconds, 0);
}

TEST(CollectReport, NotesBecomeSensitivityAndRounds) {
  MadeArchive run;
  std::vector<Note> notes;
  for (int v = 0; v < 14; ++v)
    notes.push_back({"sensitivity",
                     {{"variable", v}, {"divergence", v == 3 ? 5.0 : 1.0}, {"pruned", v == 3 ? 1.0 : 0.0}}});
  notes.push_back({"sensitivity", {{"variable", 99}, {"divergence", 1}}});  // of no variable of this space
  notes.push_back({"round", {{"round", 1}, {"hypervolume", 0.5}}});
  notes.push_back({"round", {{"round", 2}, {"rmse", 0.1}}});
  run.add("amq", {run.step(run.space().smallest(), 1, "sensitivity")}, notes);
  const ReportData data = run.collect();
  ASSERT_EQ(data.sensitivities.size(), 1u);
  EXPECT_EQ(data.sensitivities[0].values[3], 5);
  ASSERT_TRUE(data.sensitivities[0].threshold.has_value());
  EXPECT_EQ(*data.sensitivities[0].threshold, 2);
  const ReportTable& rounds = data.searches[0].rounds;
  EXPECT_EQ(rounds.names, (std::vector<std::string>{"round", "hypervolume", "rmse"}));
  for (const auto& column : rounds.columns) ASSERT_EQ(column.size(), 2u);
  EXPECT_EQ(rounds.columns[1][0], 0.5);
  EXPECT_TRUE(std::isnan(rounds.columns[1][1]));
  EXPECT_TRUE(std::isnan(rounds.columns[2][0]));
  EXPECT_EQ(rounds.columns[2][1], 0.1);
}

TEST(CollectReport, HeldOutModelsAreUniformOrSearched) {
  MadeArchive run;
  Random random(2);
  run.archive().add(kHeldOutSet, run.space().largest(), measured(0.1), 0);
  run.archive().add(kHeldOutSet, random_point(run.space(), random), measured(0.3), 0);
  const ReportData data = run.collect();
  ASSERT_EQ(data.heldout.size(), 2u);
  EXPECT_TRUE(data.heldout[0].uniform);
  EXPECT_EQ(data.heldout[0].label, "uniform hqq:b4g128");
  EXPECT_EQ(data.heldout[0].bytes, run.space().bytes(run.space().largest()));
  EXPECT_FALSE(data.heldout[1].uniform);
}

TEST(CollectReport, TheCommandIsOneForAShell) {
  const MadeArchive run;
  EXPECT_EQ(run.collect("runs/a-1").pick_command, "knapsaq pick runs/a-1 --budget {budget} -o OUT");
  EXPECT_EQ(run.collect("it's $HOME").pick_command, "knapsaq pick 'it'\\''s $HOME' --budget {budget} -o OUT");
}

}  // namespace
}  // namespace knapsaq
