#include "knapsaq/search/run_search.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/stop_file.h"
#include "scratch.h"
#include "search/archive_dump.h"
#include "search/made_space.h"
#include "search/racing_strategy.h"
#include "search/synthetic_evaluator.h"

namespace knapsaq {
namespace {

/// Asks the given questions and remembers the answers.
class Script : public Strategy {
 public:
  explicit Script(std::vector<Batch> batches) : batches_(std::move(batches)) {}
  Batch ask() override { return next_ < batches_.size() ? batches_[next_++] : Batch{}; }
  void tell(const Batch& batch, std::span<const Measurement> measurements) override {
    EXPECT_EQ(batch.points.size(), measurements.size());
    told.emplace_back(measurements.begin(), measurements.end());
  }
  std::vector<Note> notes() override { return {{"asked", {{"batches", static_cast<double>(next_)}}}}; }
  std::vector<std::vector<Measurement>> told;

 private:
  std::vector<Batch> batches_;
  std::size_t next_ = 0;
};

Batch batch_of(std::vector<Point> points, std::int64_t windows = 0) {
  Batch batch;
  batch.points = std::move(points);
  batch.windows = windows;
  batch.phase = "scripted";
  return batch;
}

/// Fails if the same window of a point is measured twice.
class StrictEvaluator : public SyntheticEvaluator {
 public:
  using SyntheticEvaluator::SyntheticEvaluator;
  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override {
    for (const Point& point : points)
      for (std::int64_t window = windows.first; window < windows.last; ++window)
        EXPECT_TRUE(seen_[point].insert(window).second) << "measured again";
    SyntheticEvaluator::measure(points, windows, done);
  }

 private:
  std::map<Point, std::set<std::int64_t>, PointLess> seen_;
};

class RunSearch : public testing::Test {
 protected:
  RunSearch() {
    setup_.space = &space_;
    setup_.windows = 4;
    setup_.seed = 3;
  }
  SearchReport run(Strategy& strategy, Evaluator& evaluator, std::string_view name = "s",
                   const std::function<void(const SearchStatus&)>& status = {}) {
    return run_search(strategy, setup_, archive_.search(name, "", setup_.seed), evaluator, archive_, status);
  }

  Scratch scratch_;
  SearchSpace space_ = made_space(6);
  StrategySetup setup_;
  Archive archive_ = Archive::create(scratch_ / "archive");
};

TEST_F(RunSearch, StopsAfterTheBatchAndGoesOnLater) {
  const std::vector<Batch> batches = {batch_of({Point(6, 0), Point(6, 1)}), batch_of({Point(6, 2)}),
                                      batch_of({{1, 0, 0, 0, 0, 0}})};
  SyntheticEvaluator evaluator(space_);
  Script script(batches);
  const SearchRecord record = archive_.search("s", "", setup_.seed);
  int asked = 0;
  const SearchReport first =
      run_search(script, setup_, record, evaluator, archive_, {}, [&] { return ++asked == 2; });
  EXPECT_TRUE(first.stopped);
  EXPECT_EQ(script.told.size(), 2U);
  EXPECT_EQ(std::ssize(archive_.steps(record.id)), first.evaluations);
  EXPECT_FALSE(archive_.searches().at(0).finished);

  Script again(batches);
  const SearchReport second =
      run_search(again, setup_, record, evaluator, archive_, {}, [] { return false; });
  EXPECT_FALSE(second.stopped);
  EXPECT_EQ(second.evaluations, first.evaluations + 1);
  EXPECT_EQ(second.measured, 1);
  EXPECT_TRUE(archive_.searches().at(0).finished);
}

TEST(StopFile, RequestsOfEarlierDoNotCount) {
  const Scratch scratch;
  request_stop(scratch.path());
  EXPECT_TRUE(stop_requested(scratch.path()));
  {
    const StopFile file(scratch.path());
    EXPECT_FALSE(file.requested());
    request_stop(scratch.path());
    EXPECT_TRUE(file.requested());
  }
  EXPECT_FALSE(stop_requested(scratch.path()));
  // A folder of that name is somebody else's.
  std::filesystem::create_directory(scratch / "stop");
  const StopFile file(scratch.path());
  EXPECT_FALSE(file.requested());
  EXPECT_TRUE(std::filesystem::exists(scratch / "stop"));
}

TEST_F(RunSearch, BeginsWithTheExtremes) {
  SyntheticEvaluator evaluator(space_);
  Script script({batch_of({space_.largest()})});
  const SearchReport report = run(script, evaluator);
  EXPECT_EQ(report.evaluations, 2);
  EXPECT_EQ(evaluator.calls(), 2);
  const std::vector<Step> steps = archive_.steps(report.search);
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0].phase, kExtremes);
  EXPECT_EQ(steps[0].point, space_.smallest());
  EXPECT_EQ(steps[1].point, space_.largest());
  EXPECT_EQ(steps[0].batch, 0);
  EXPECT_TRUE(archive_.searches().front().finished);
  // Its only batch, and what it said at the end.
  const std::vector<StoredNote> notes = archive_.notes(report.search);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_EQ(notes[0].batch, 1);
  EXPECT_EQ(notes[1].batch, 2);
}

TEST_F(RunSearch, TellsWhatTheEvaluatorMeasuredRoundedOnce) {
  SyntheticEvaluator evaluator(space_);
  const Point a = {0, 1, 2, 0, 1, 2};
  const Point b = {2, 2, 1, 1, 0, 0};
  Script script({batch_of({b, a, b}, 3)});
  run(script, evaluator);
  ASSERT_EQ(script.told.size(), 1U);
  for (std::size_t i = 0; i < 3; ++i) {
    const Measurement expected = kept(evaluator.answer(i == 1 ? a : b, {0, 3}));
    EXPECT_EQ(script.told[0][i].kl, expected.kl);
    EXPECT_EQ(script.told[0][i].loss, expected.loss);
    EXPECT_EQ(script.told[0][i].windows, 3);
    EXPECT_EQ(script.told[0][i].per_token, expected.per_token);
    EXPECT_EQ(archive_.find(kSearchSet, i == 1 ? a : b, 3)->per_token, expected.per_token);
  }
}

TEST_F(RunSearch, MeasuresOnlyTheNewWindowsOfAHigherFidelity) {
  StrictEvaluator evaluator(space_);
  const Point a = {0, 1, 2, 0, 1, 2};
  const Point b = {2, 2, 1, 1, 0, 0};
  Script script({batch_of({a}, 1), batch_of({a, b}, 3), batch_of({b, a})});
  const SearchReport report = run(script, evaluator);
  // The extremes' four windows each, and those of a and b.
  EXPECT_EQ(evaluator.measured_windows(), 4 * 4);
  EXPECT_EQ(report.evaluations, 2 + 5);
  for (const auto& [told, windows] : {std::pair(script.told[1][0], 3), std::pair(script.told[2][1], 4)}) {
    const Measurement whole = kept(evaluator.answer(a, {0, windows}));
    EXPECT_EQ(told.windows, whole.windows);
    EXPECT_EQ(told.tokens, whole.tokens);
    EXPECT_EQ(told.per_token, whole.per_token);
    EXPECT_NEAR(told.kl, whole.kl, 1e-12);
    EXPECT_NEAR(told.loss, whole.loss, 1e-12);
    EXPECT_NEAR(told.agreement, whole.agreement, 1e-3);  // the synthetic one is no mean over tokens
  }
}

TEST_F(RunSearch, CountsTheCostOfWhatWasNotAskedBefore) {
  SyntheticEvaluator evaluator(space_);
  const Point a = {0, 1, 2, 0, 1, 2};
  const Point b = {0, 1, 2, 1, 0, 0};
  const Point c = {1, 1, 1, 1, 1, 1};
  const std::vector<Batch> batches = {batch_of({a, b, a}, 2), batch_of({b, c, a}), batch_of({c, a})};
  // Two passes for the extremes; b shares half with a; their last two windows and c's four.
  const double expected = 2 + (1 + 0.5) * 0.5 + 1.5 * 0.5 + 1;
  for (const std::string_view name : {"first", "second"}) {
    Script script(batches);
    const SearchReport report = run(script, evaluator, name);
    EXPECT_NEAR(report.full_passes, expected, 1e-12);
    EXPECT_EQ(report.evaluations, 2 + 2 + 3);
    // The second finds everything in the archive, which makes no difference to what it would have cost.
    EXPECT_EQ(report.measured, name == "first" ? 7 : 0);
    const std::vector<Step> steps = archive_.steps(report.search);
    ASSERT_EQ(steps.size(), 7U);
    double sum = 0;
    for (const Step& step : steps) sum += step.cost;
    EXPECT_EQ(sum, report.full_passes);
    EXPECT_DOUBLE_EQ(steps[2].cost, 0.375);
    EXPECT_DOUBLE_EQ(steps[4].cost, 0.375);  // b's additional windows
    EXPECT_EQ(steps[5].point, c);
    EXPECT_DOUBLE_EQ(steps[5].cost, 1);
  }
}

TEST_F(RunSearch, StrategiesShareTheArchive) {
  StrictEvaluator evaluator(space_);
  RacingStrategy racing(setup_, 4);
  const SearchReport first = run(racing, evaluator, "racing");
  setup_.evaluations = 300;
  const StrategyInfo& info = find_strategy("random");
  const std::unique_ptr<Strategy> random = info.make(setup_, OptionValues(info.options));
  const SearchReport second = run(*random, evaluator, "random");
  EXPECT_GT(second.evaluations, 150);
  EXPECT_LT(second.measured, second.evaluations - 2);
  EXPECT_EQ(evaluator.calls(), first.measured + second.measured);
  // Each point once for each fidelity, whoever asked.
  for (const std::int64_t search : {first.search, second.search}) {
    std::map<Point, std::set<std::int64_t>, PointLess> asked;
    std::int64_t ordinal = 0;
    for (const Step& step : archive_.steps(search)) {
      EXPECT_TRUE(asked[step.point].insert(step.measurement.windows).second);
      EXPECT_EQ(step.ordinal, ordinal++);
    }
  }
  // An archive that knew nothing before tells the same course.
  Archive alone = Archive::create(scratch_ / "alone");
  const std::unique_ptr<Strategy> again = info.make(setup_, OptionValues(info.options));
  SyntheticEvaluator fresh(space_);
  const SearchReport report =
      run_search(*again, setup_, alone.search("random", "", setup_.seed), fresh, alone);
  EXPECT_EQ(report.full_passes, second.full_passes);
  EXPECT_EQ(report.evaluations, second.evaluations);
}

TEST_F(RunSearch, ReportsEveryResult) {
  SyntheticEvaluator evaluator(space_);
  const Point a = {0, 1, 2, 0, 1, 2};
  const Point b = {0, 1, 2, 1, 0, 0};
  Script script({batch_of({a, b, a}), batch_of({b, space_.smallest()}, 4)});
  std::vector<std::tuple<std::string, int, int, int, int>> seen;
  double passes = 0;
  const SearchReport report = run(script, evaluator, "s", [&](const SearchStatus& status) {
    seen.emplace_back(status.phase, status.planned, status.done, status.evaluations, status.measured);
    EXPECT_GE(status.full_passes, passes - 1e-12);
    passes = status.full_passes;
  });
  using Row = std::tuple<std::string, int, int, int, int>;
  EXPECT_THAT(seen, testing::ElementsAre(Row("extremes", 2, 0, 0, 0), Row("extremes", 2, 1, 1, 1),
                                         Row("extremes", 2, 2, 2, 2), Row("scripted", 2, 0, 2, 2),
                                         Row("scripted", 2, 1, 3, 3), Row("scripted", 2, 2, 4, 4),
                                         // Of the second batch everything is known: told one by one, too.
                                         Row("scripted", 2, 1, 4, 4), Row("scripted", 2, 2, 4, 4),
                                         Row("scripted", 2, 2, 4, 4)));
  EXPECT_EQ(passes, report.full_passes);
}

TEST_F(RunSearch, KeepsPredictionsOfTheFirstOfEqualPoints) {
  SyntheticEvaluator evaluator(space_);
  Batch batch = batch_of({{0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 1, 1}, {0, 0, 0, 0, 0, 1}});
  batch.predicted = {0.5, std::nan(""), 0.7};
  Script script({batch});
  const std::vector<Step> steps = archive_.steps(run(script, evaluator).search);
  ASSERT_EQ(steps.size(), 4U);
  EXPECT_EQ(steps[2].predicted, 0.5);
  EXPECT_EQ(steps[3].predicted, std::nullopt);
  EXPECT_EQ(steps[0].predicted, std::nullopt);
}

TEST_F(RunSearch, RefusesWhatNoStrategyMayAsk) {
  SyntheticEvaluator evaluator(space_);
  Batch predicted = batch_of({space_.smallest()});
  predicted.predicted = {1, 2};
  for (const Batch& batch :
       {batch_of({{0, 0, 0, 0, 0, 3}}), batch_of({{0, 0, 0, 0, 0}}), batch_of({space_.smallest()}, 5),
        batch_of({space_.smallest()}, -1), predicted}) {
    Script script({batch});
    EXPECT_THROW(run(script, evaluator), std::invalid_argument);
  }
}

/// Cancels after some results, as a signal handler would.
class CancellingEvaluator : public SyntheticEvaluator {
 public:
  using SyntheticEvaluator::SyntheticEvaluator;
  std::int64_t last = 0;
  void measure(std::span<const Point> points, WindowRange windows, const Done& done) override {
    SyntheticEvaluator::measure(points, windows, [&](std::size_t index, Measurement measurement) {
      if (calls() > last) throw Cancelled();
      done(index, std::move(measurement));
    });
  }
};

TEST_F(RunSearch, GoesOnAfterACancel) {
  SyntheticEvaluator evaluator(space_);
  RacingStrategy whole(setup_, 3);
  run(whole, evaluator, "racing");
  const std::filesystem::path path = scratch_ / "cancelled";
  bool done = false;
  for (std::int64_t last = 1; !done; ++last) {
    Archive archive = Archive::create(path);
    CancellingEvaluator cancelling(space_);
    cancelling.last = 3;
    RacingStrategy racing(setup_, 3);
    try {
      run_search(racing, setup_, archive.search("racing", "", setup_.seed), cancelling, archive);
      done = true;
    } catch (const Cancelled&) {
    }
    ASSERT_LE(last, evaluator.calls());
  }
  EXPECT_EQ(dump(path), dump(scratch_ / "archive"));
}

}  // namespace
}  // namespace knapsaq
