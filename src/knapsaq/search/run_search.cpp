#include "knapsaq/search/run_search.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/search/point_less.h"

namespace knapsaq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A point of a batch, once, even if the batch repeats it.
struct Question {
  Point point;
  std::optional<double> predicted;
  bool is_new = false;  ///< for this search, at this fidelity
  double cost = 0;      ///< 0 unless it is new
  Measurement answer;   ///< of fewer windows, or none, until it is measured
};

class Questioning {
 public:
  Questioning(const StrategySetup& setup, const SearchRecord& record, Evaluator& evaluator, Archive& archive,
              const std::function<void(const SearchStatus&)>& status)
      : setup_(setup), record_(record), evaluator_(evaluator), archive_(archive), status_(status) {
    archive_.expect(*setup_.space);
  }

  /// The batch's measurements, one for each of its points; all of them are in the archive then.
  std::vector<Measurement> answer(const Batch& batch, std::int64_t expected = 0) {
    check(batch);
    progress_.expected = expected;
    const std::int64_t windows = batch.windows > 0 ? batch.windows : evaluator_.windows();
    std::vector<std::size_t> places;
    std::vector<Question> questions = distinct(batch, places);
    mark_new(questions, windows);
    progress_.planned = std::ssize(questions);
    progress_.done = 0;
    progress_.phase = batch.phase;

    // Grouped by the windows that are already known. Ascending, and in the batch's order: a resumed run
    // continues where the killed one stopped.
    std::map<std::int64_t, std::vector<std::size_t>> missing;
    for (std::size_t q = 0; q < questions.size(); ++q) {
      Question& question = questions[q];
      std::optional<Measurement> known = archive_.find_at_most(kSearchSet, question.point, windows);
      // A measurement without its tokens could not be compared in pairs with others.
      if (known && std::ssize(known->per_token) == known->tokens) question.answer = std::move(*known);
      if (question.answer.windows == windows) {
        count(question);
        progress_.point = &question.point;
        progress_.measurement = &question.answer;
        tell_status();
      } else {
        missing[question.answer.windows].push_back(q);
      }
    }
    progress_.point = nullptr;
    progress_.measurement = nullptr;
    tell_status();
    for (const auto& [first, which] : missing) measure(questions, which, {first, windows});

    std::vector<Step> steps;
    for (const Question& question : questions) {
      if (!question.is_new) continue;
      Step& step = steps.emplace_back();
      step.search = record_.id;
      step.ordinal = ordinal_++;
      step.batch = batch_;
      step.phase = batch.phase;
      step.point = question.point;
      step.predicted = question.predicted;
      step.cost = question.cost;
      step.measurement.windows = windows;
      passes_ += question.cost;
    }
    // The same sum, whatever was in the archive and therefore counted first.
    progress_.full_passes = passes_;
    steps_ = std::move(steps);

    std::vector<Measurement> result;
    for (const std::size_t place : places) result.push_back(questions[place].answer);
    return result;
  }

  /// Archives the last answered batch with the strategy's notes about it.
  void close_batch(const std::vector<Note>& notes) {
    archive_.add_batch(record_.id, batch_, steps_, notes);
    steps_.clear();
    ++batch_;
  }

  SearchReport report() const {
    return {
        record_.id, progress_.evaluations, progress_.measured, progress_.full_passes, seconds_since(start_),
        false};
  }

 private:
  /// Errors of strategies, found before they are used as indices.
  void check(const Batch& batch) const {
    if (batch.windows < 0 || batch.windows > evaluator_.windows())
      throw std::invalid_argument(fmt::format("search: the strategy {} asks for {} windows of {}",
                                              record_.strategy, batch.windows, evaluator_.windows()));
    if (!batch.predicted.empty() && batch.predicted.size() != batch.points.size())
      throw std::invalid_argument(fmt::format("search: the strategy {} predicts {} of {} points",
                                              record_.strategy, batch.predicted.size(), batch.points.size()));
    const std::vector<Variable>& variables = setup_.space->variables;
    for (const Point& point : batch.points) {
      bool fits = point.size() == variables.size();
      for (std::size_t v = 0; fits && v < point.size(); ++v) fits = point[v] < variables[v].levels.size();
      if (!fits)
        throw std::invalid_argument(
            fmt::format("search: the strategy {} asks for a point outside the space", record_.strategy));
    }
  }

  /// In the order of the batch; `places` receives the question of each of its points.
  static std::vector<Question> distinct(const Batch& batch, std::vector<std::size_t>& places) {
    std::vector<Question> questions;
    std::map<Point, std::size_t, PointLess> numbers;
    for (std::size_t i = 0; i < batch.points.size(); ++i) {
      const auto [place, added] = numbers.try_emplace(batch.points[i], questions.size());
      places.push_back(place->second);
      if (!added) continue;
      Question& question = questions.emplace_back();
      question.point = batch.points[i];
      if (!batch.predicted.empty()) question.predicted = batch.predicted[i];
    }
    return questions;
  }

  /// The questions that the search had not asked before, and the cost of each: an equal share of their common
  /// cost, as if the archive contained only this search's own earlier questions.
  void mark_new(std::vector<Question>& questions, std::int64_t windows) {
    std::map<std::int64_t, std::vector<std::size_t>> by_known_windows;
    for (std::size_t q = 0; q < questions.size(); ++q) {
      std::set<std::int64_t>& before = asked_[questions[q].point];
      const auto higher = before.lower_bound(windows);
      if (higher != before.end() && *higher == windows) continue;
      by_known_windows[higher == before.begin() ? 0 : *std::prev(higher)].push_back(q);
      before.insert(windows);
      questions[q].is_new = true;
    }
    for (const auto& [first, which] : by_known_windows) {
      std::vector<Point> points;
      for (const std::size_t q : which) points.push_back(questions[q].point);
      const double cost = evaluator_.cost(points, {first, windows}) / static_cast<double>(which.size());
      for (const std::size_t q : which) questions[q].cost = cost;
    }
  }

  void measure(std::vector<Question>& questions, const std::vector<std::size_t>& which, WindowRange windows) {
    std::vector<Point> points;
    for (const std::size_t q : which) points.push_back(questions[q].point);
    Clock::time_point started = Clock::now();
    evaluator_.measure(points, windows, [&](std::size_t index, Measurement measurement) {
      const double seconds = seconds_since(started);
      Question& question = questions[which[index]];
      if (question.answer.windows > 0) measurement = join(question.answer, measurement);
      question.answer = kept(std::move(measurement));
      archive_.add(kSearchSet, question.point, question.answer, seconds);
      ++progress_.measured;
      count(question);
      progress_.point = &question.point;
      progress_.measurement = &question.answer;
      tell_status();
      started = Clock::now();
    });
    for (const std::size_t q : which)
      if (questions[q].answer.windows != windows.last)
        throw std::logic_error("search: the evaluator left a point out");
  }

  /// The question has its answer.
  void count(const Question& question) {
    ++progress_.done;
    if (!question.is_new) return;
    ++progress_.evaluations;
    progress_.full_passes += question.cost;
  }

  void tell_status() {
    if (!status_) return;
    progress_.seconds = seconds_since(start_);
    status_(progress_);
  }

  const StrategySetup& setup_;
  const SearchRecord& record_;
  Evaluator& evaluator_;
  Archive& archive_;
  const std::function<void(const SearchStatus&)>& status_;
  Clock::time_point start_ = Clock::now();
  std::map<Point, std::set<std::int64_t>, PointLess>
      asked_;  ///< by this search: points with their fidelities
  std::int64_t batch_ = 0;
  std::int64_t ordinal_ = 0;
  double passes_ = 0;        ///< cost of all batches that were answered
  std::vector<Step> steps_;  ///< of the batch that was answered last
  SearchStatus progress_;
};

}  // namespace

SearchReport run_search(Strategy& strategy, const StrategySetup& setup, const SearchRecord& record,
                        Evaluator& evaluator, Archive& archive,
                        const std::function<void(const SearchStatus&)>& status, const StopRequest& stop) {
  Questioning run(setup, record, evaluator, archive, status);
  Batch extremes;
  extremes.points = {setup.space->smallest(), setup.space->largest()};
  extremes.phase = kExtremes;
  run.answer(extremes);
  run.close_batch({});
  while (true) {
    check_cancelled();
    const Batch batch = strategy.ask();
    if (batch.points.empty()) break;
    const std::vector<Measurement> measurements = run.answer(batch, strategy.planned());
    strategy.tell(batch, measurements);
    run.close_batch(strategy.notes());
    if (!stop || !stop()) continue;
    SearchReport report = run.report();
    report.stopped = true;
    return report;
  }
  // Results of the last ask().
  run.close_batch(strategy.notes());
  archive.finish(record.id);
  return run.report();
}

}  // namespace knapsaq
