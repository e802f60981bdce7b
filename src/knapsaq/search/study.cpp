#include "knapsaq/search/study.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/search_identity.h"

namespace knapsaq {
namespace {

/// Records a strategy's questions and answers: the best one by the goal, and the course.
class Recorder final : public Strategy {
 public:
  Recorder(Strategy& strategy, const Goal& goal, std::int64_t windows)
      : strategy_(strategy), goal_(goal), windows_(windows) {}

  Batch ask() override { return strategy_.ask(); }

  void tell(const Batch& batch, std::span<const Measurement> measurements) override {
    for (std::size_t i = 0; i < batch.points.size(); ++i) record(batch.points[i], measurements[i]);
    strategy_.tell(batch, measurements);
  }

  std::int64_t planned() const override { return strategy_.planned(); }
  std::vector<Note> notes() override { return strategy_.notes(); }

  /// Curve and best point. Throws UsageError if no question had an answer with a value.
  StudyRun result(std::string_view name) const {
    StudyRun run;
    if (!found_) {
      throw UsageError(fmt::format(
          "strategy {} asked for no point that the goal gives a value: raise the budget or the evaluations",
          name));
    }
    run.curve = curve_;
    run.point = point_;
    run.measurement = measurement_;
    run.goal = best_;
    run.distinct = std::ssize(asked_);
    return run;
  }

 private:
  void record(const Point& point, const Measurement& measurement) {
    asked_.insert(point);
    const double value = goal_.value(point, measurement);
    if (measurement.windows == windows_ && value < kWorthless && (!found_ || value < best_)) {
      found_ = true;
      best_ = value;
      point_ = point;
      measurement_ = measurement;
      measurement_.per_token.clear();
    }
    curve_.push_back(found_ ? best_ : std::numeric_limits<double>::quiet_NaN());
  }

  Strategy& strategy_;
  const Goal& goal_;
  std::int64_t windows_;
  std::set<Point, PointLess> asked_;
  std::vector<double> curve_;
  bool found_ = false;
  double best_ = 0;
  Point point_;
  Measurement measurement_;
};

void check(const StudySettings& settings) {
  if (settings.strategies.empty()) throw UsageError("a study needs at least one strategy");
  if (settings.repeats < 2)
    throw UsageError(fmt::format("a study needs at least 2 repeats, not {}", settings.repeats));
  if (settings.evaluations < 1) throw UsageError("a study needs at least one evaluation");
  std::set<std::pair<std::string_view, std::string>> seen;
  for (const StudyStrategy& strategy : settings.strategies) {
    if (!seen.emplace(strategy.info->name, strategy.options.to_string()).second) {
      throw UsageError(fmt::format("the study has strategy {} twice with the same options: leave one out",
                                   strategy.info->name));
    }
  }
}

/// The values that follow from the point.
void describe(StudyRun& run, const SearchSpace& space) {
  for (std::size_t i = 0; i < run.point.size(); ++i)
    run.bits.push_back(space.variables[i].levels[run.point[i]].bits);
  run.sum_bits = sum_bits(space, run.point);
  run.fitness = paper_fitness(run.measurement.perplexity(), run.sum_bits);
  run.bits_per_weight = space.bits(run.point);
  run.linear_bytes = space.linear_bytes(run.point);
  run.bytes = space.bytes(run.point);
}

/// The spread of one number over the runs.
template <class Value>
Spread spread_of(const StudyGroup& group, Value&& value) {
  std::vector<double> values;
  for (const StudyRun& run : group.runs) values.push_back(value(run));
  return spread(values);
}

/// If a curve ended early, its last value continues.
std::vector<Spread> band_of(const StudyGroup& group) {
  std::size_t length = 0;
  for (const StudyRun& run : group.runs) length = std::max(length, run.curve.size());
  std::vector<Spread> band(length);
  std::vector<double> values;
  for (std::size_t question = 0; question < length; ++question) {
    values.clear();
    for (const StudyRun& run : group.runs)
      values.push_back(run.curve[std::min(question, run.curve.size() - 1)]);
    if (std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); }))
      band[question] = spread(values);
  }
  return band;
}

std::vector<double> outcomes(const StudyGroup& group) {
  std::vector<double> values;
  for (const StudyRun& run : group.runs) values.push_back(run.goal);
  return values;
}

}  // namespace

void summarize(Study& study) {
  for (StudyGroup& group : study.groups) {
    group.goal = spread_of(group, [](const StudyRun& run) { return run.goal; });
    group.fitness = spread_of(group, [](const StudyRun& run) { return run.fitness; });
    group.perplexity = spread_of(group, [](const StudyRun& run) { return run.measurement.perplexity(); });
    group.divergence =
        spread_of(group, [&](const StudyRun& run) { return run.measurement.value(study.divergence); });
    group.sum_bits = spread_of(group, [](const StudyRun& run) { return run.sum_bits; });
    group.full_passes = spread_of(group, [](const StudyRun& run) { return run.full_passes; });
    group.band = band_of(group);
  }
  study.tests.clear();
  std::vector<double> p;
  for (std::size_t a = 0; a < study.groups.size(); ++a) {
    for (std::size_t b = a + 1; b < study.groups.size(); ++b) {
      const std::vector<double> of_a = outcomes(study.groups[a]);
      const std::vector<double> of_b = outcomes(study.groups[b]);
      StudyTest& test = study.tests.emplace_back();
      test.a = a;
      test.b = b;
      test.rank_sum = rank_sum(of_a, of_b);
      test.mann_whitney = mann_whitney(of_a, of_b);
      test.a_better = vargha_delaney(of_b, of_a);  // small is good
      test.rank_biserial = 2 * test.a_better - 1;
      p.push_back(test.rank_sum.p);
    }
  }
  const std::vector<double> adjusted = holm(p);
  for (std::size_t i = 0; i < adjusted.size(); ++i) study.tests[i].holm = adjusted[i];
}

Study run_study(const StudySettings& settings, const StrategySetup& setup, Evaluator& evaluator,
                Archive& archive, std::vector<StudyBaseline> baselines, const StudyListener& listener) {
  check(settings);
  const std::unique_ptr<Goal> goal = make_goal(settings.goal, *setup.space, setup.budget, setup.divergence);
  Study study;
  study.goal = settings.goal;
  study.divergence = setup.divergence;
  study.budget = setup.budget;
  study.repeats = settings.repeats;
  study.evaluations = settings.evaluations;
  study.seed = settings.seed;
  study.tokens = evaluator.windows() * evaluator.targets();
  study.baselines = std::move(baselines);
  for (const StudyStrategy& strategy : settings.strategies) {
    StudyGroup& group = study.groups.emplace_back();
    group.strategy = strategy.info->name;
    group.options = strategy.options.to_string();
  }

  const std::int64_t runs = settings.repeats * std::ssize(settings.strategies);
  std::int64_t done = 0;
  for (std::int64_t repeat = 0; repeat < settings.repeats; ++repeat) {
    for (std::size_t s = 0; s < settings.strategies.size(); ++s) {
      const StudyStrategy& entry = settings.strategies[s];
      StrategySetup own = setup;
      own.seed = settings.seed + static_cast<std::uint64_t>(repeat);
      own.evaluations = settings.evaluations;
      own.goal = goal.get();
      const std::unique_ptr<Strategy> strategy = entry.info->make(own, entry.options);
      Recorder recorder(*strategy, *goal, evaluator.windows());
      const SearchRecord record = archive.search(
          entry.info->name, search_identity(entry.options, settings.evaluations, setup.budget, settings.goal),
          own.seed);
      const SearchReport report =
          run_search(recorder, own, record, evaluator, archive, [&](const SearchStatus& status) {
            if (listener) listener(done, runs, entry.info->name, status);
          });
      StudyRun run = recorder.result(entry.info->name);
      run.seed = own.seed;
      run.full_passes = report.full_passes;
      run.seconds = report.seconds;
      describe(run, *setup.space);
      study.groups[s].runs.push_back(std::move(run));
      ++done;
    }
  }
  summarize(study);
  return study;
}

}  // namespace knapsaq
