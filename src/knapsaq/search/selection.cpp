#include "knapsaq/search/selection.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/pick_near.h"
#include "knapsaq/search/uniform.h"

namespace knapsaq {
namespace {

/// What was measured on the whole token set, in the order of measuring or asking.
std::vector<Archive::Entry> searched(const Run& run, std::string_view strategy) {
  const std::int64_t windows = run.settings().search.windows();
  if (strategy.empty()) return run.archive().entries(kSearchSet, windows);
  std::vector<Archive::Entry> entries;
  std::string known;
  bool found = false;
  for (const SearchRecord& record : run.archive().searches()) {
    known += (known.empty() ? "" : ", ") + record.strategy;
    if (record.strategy != strategy) continue;
    found = true;
    for (const Step& step : run.archive().steps(record.id))
      if (step.measurement.windows == windows) entries.push_back({step.point, step.measurement, 0});
  }
  if (!found)
    throw UsageError(fmt::format("{}: has no search with strategy {}; it has {}", run.folder().string(),
                                 in_quotes(strategy), known.empty() ? "none" : known));
  return entries;
}

/// Searched points that fit, the best first; of equal ones the first that was measured.
class Searched {
 public:
  Searched(const Run& run, const Budget& budget, std::string_view strategy)
      : space_(run.space()), budget_(budget), entries_(searched(run, strategy)) {
    std::erase_if(entries_, [](const Archive::Entry& entry) { return !entry.measurement.finite(); });
    const Divergence divergence = run.settings().divergence;
    std::ranges::stable_sort(
        entries_, {}, [&](const Archive::Entry& entry) { return entry.measurement.value(divergence); });
  }

  std::optional<Point> next() {
    while (at_ < entries_.size()) {
      const Point& point = entries_[at_++].point;
      if (space_.fits(point, budget_)) return point;
    }
    return std::nullopt;
  }

 private:
  const SearchSpace& space_;
  Budget budget_;
  std::vector<Archive::Entry> entries_;
  std::size_t at_ = 0;
};

/// Held-out measurements, from the archive where they are there.
class HeldOut {
 public:
  HeldOut(Run& run, Evaluators& evaluators, Progress& progress)
      : run_(run), evaluators_(evaluators), progress_(progress) {}

  std::vector<Candidate> measure(const std::vector<Point>& points) {
    const std::int64_t windows = run_.settings().heldout.windows();
    std::vector<Candidate> result;
    std::vector<Point> missing;
    std::vector<std::size_t> places;
    for (const Point& point : points) {
      std::optional<Measurement> known = run_.archive().find(kHeldOutSet, point, windows);
      if (!known || known->per_token.empty()) {  // without its tokens it cannot be compared
        known.reset();
        places.push_back(result.size());
        missing.push_back(point);
      }
      result.push_back({point, run_.space().bytes(point), run_.space().bits(point),
                        std::move(known).value_or(Measurement())});
    }
    if (missing.empty()) return result;
    Evaluator& runner = evaluators_.of(kHeldOutSet);  // shows progress of its own
    ProgressScope scope(progress_, "held-out text", missing.size(), "models");
    runner.measure(missing, {0, windows}, [&](std::size_t index, Measurement measurement) {
      measurement = kept(std::move(measurement));
      // While a search writes into the archive, what is found here is not kept.
      if (run_.archive().writable()) run_.archive().add(kHeldOutSet, missing[index], measurement, 0);
      result[places[index]].heldout = std::move(measurement);
      scope.advance();
    });
    return result;
  }

  double reference_loss() {
    if (const auto known = std::as_const(run_).reference_loss(kHeldOutSet)) return *known;
    return run_.reference_loss(kHeldOutSet, &evaluators_.of(kHeldOutSet)).value();
  }

 private:
  Run& run_;
  Evaluators& evaluators_;
  Progress& progress_;
};

std::string in_words(const Budget& budget) {
  return fmt::format("{} bytes{}", budget.bytes, budget.of == Budget::Of::linears ? " for the linears" : "");
}

/// What `next` gives, the best first, against the uniform points within the budget. What computes no finite
/// numbers on the held-out text has lost, whether anything else is there or not.
template <class Next>
Selection judge(Run& run, const Next& next, const Budget& budget, Evaluators& evaluators,
                Progress& progress) {
  std::vector<Point> points;
  for (const Point& point : uniform_points(run.space()))
    if (run.space().fits(point, budget)) points.push_back(point);
  std::optional<Point> found = next();
  if (!found && points.empty())
    throw InputError(
        fmt::format("{}: nothing was measured yet that fits into {} and computes finite numbers; go on "
                    "with `knapsaq search`",
                    run.folder().string(), in_words(budget)));
  if (found) points.push_back(*found);

  const Divergence divergence = run.settings().divergence;
  HeldOut heldout(run, evaluators, progress);
  Selection selection;
  selection.reference_loss = heldout.reference_loss();  // throws if it is not finite
  std::vector<Candidate> candidates = heldout.measure(points);
  std::optional<Candidate> best;
  if (found) {
    best = std::move(candidates.back());
    candidates.pop_back();
  }
  // A searched point that is broken on this text makes room for the next best.
  while (best && !best->heldout.finite()) {
    found = next();
    best.reset();
    if (found) best = std::move(heldout.measure({*found}).front());
  }
  std::erase_if(candidates, [](const Candidate& one) { return !one.heldout.finite(); });
  const auto uniform = std::ranges::min_element(
      candidates, {}, [&](const Candidate& one) { return one.heldout.value(divergence); });
  if (uniform == candidates.end()) {
    if (!best)
      throw NotFiniteError(
          fmt::format("{}: no model that fits into {} computes finite numbers on the "
                      "held-out text; give more bytes, or another method",
                      run.folder().string(), in_words(budget)));
    selection.chosen = std::move(*best);
    return selection;
  }
  // On a tie the searched one is chosen: it was searched for its size.
  selection.is_uniform = !best || uniform->heldout.value(divergence) < best->heldout.value(divergence);
  if (selection.is_uniform) {
    selection.chosen = std::move(*uniform);
    selection.other = std::move(best);
  } else {
    selection.chosen = std::move(*best);
    if (uniform->point != selection.chosen.point) selection.other = std::move(*uniform);
  }
  if (selection.other)
    selection.difference = paired_difference(selection.chosen.heldout, selection.other->heldout,
                                             run.settings().heldout.length - 1);
  return selection;
}

}  // namespace

Selection choose(Run& run, const Budget& budget, Evaluators& evaluators, std::string_view strategy,
                 Progress& progress) {
  require_feasible(run.space(), budget);
  Searched best(run, budget, strategy);
  return judge(
      run, [&] { return best.next(); }, budget, evaluators, progress);
}

std::vector<Point> best_searched(const Run& run, const Budget& budget, std::size_t most) {
  Searched searched(run, budget, {});
  std::vector<Point> points;
  while (points.size() < most) {
    const std::optional<Point> point = searched.next();
    if (!point) break;
    points.push_back(*point);
  }
  return points;
}

Selection choose_near(Run& run, double bits, double tolerance, Evaluators& evaluators,
                      std::string_view strategy, Progress& progress) {
  const std::vector<Archive::Entry> entries = searched(run, strategy);
  if (entries.empty())
    throw InputError(
        fmt::format("{}: nothing was measured yet; go on with `knapsaq search`", run.folder().string()));
  std::vector<Outcome> outcomes;
  outcomes.reserve(entries.size());
  for (const Archive::Entry& entry : entries)
    outcomes.push_back({run.space().bits(entry.point),
                        entry.measurement.finite() ? entry.measurement.value(run.settings().divergence)
                                                   : std::numeric_limits<double>::quiet_NaN()});
  const std::optional<std::size_t> chosen = pick_near(outcomes, bits, tolerance);
  if (!chosen)
    throw InfeasibleError(
        fmt::format("nothing that was measured has at most {} bits per weight: the smallest model that this "
                    "menu can make has {:.4f}",
                    bits, run.space().bits(run.space().smallest())),
        run.space().bits(run.space().smallest()));
  // One point is meant, not the next best.
  std::optional<Point> point = entries[*chosen].point;
  const Budget budget{run.space().bytes(*point), Budget::Of::files};
  return judge(
      run, [&] { return std::exchange(point, std::nullopt); }, budget, evaluators, progress);
}

}  // namespace knapsaq
