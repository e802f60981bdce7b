#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/front/fisher_increases.h"
#include "knapsaq/search/front/selection.h"
#include "knapsaq/search/front/surrogate.h"
#include "knapsaq/search/front/surrogate_front.h"
#include "knapsaq/search/knapsack.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

// Points with long common prefixes cost little each. With more of them in a round, the surrogate would learn
// from none for a long time.
constexpr std::size_t kMostPerPass = 4;
// Divergence that the surrogate learns for a candidate that computes no finite numbers. It is above that of a
// model that predicts nothing at all: the logarithm of its vocabulary, about 12.
constexpr double kBroken = 20;

/// Rounds, and full passes in each: few enough to learn often, many enough to share prefixes.
struct Effort {
  std::int64_t rounds;
  std::int64_t batch;
};
// After a sweep of single changes, which costs about as many passes as there are variables, all of it is a
// twentieth of AMQ's cost. At one size later rounds gain less than 0.5 %.
constexpr Effort kSweep{12, 24};
constexpr Effort kSweepAtBudget{6, 24};
// Without a sweep: a quarter of those in all. At one size learning often pays more than sharing prefixes.
constexpr Effort kFisher{7, 12};
constexpr Effort kFisherAtBudget{9, 3};

/// Knapsaq's own strategy.
///
/// It begins with what each variable does alone: Fisher costs say it (fisher_increases()), or it is measured,
/// at the variable's lowest level and at a middle one; the evaluator shares the prefixes of these points.
/// Then follow rounds. Each round fits a surrogate to everything measured so far, finds the front that it
/// predicts (an exact knapsack, then changes of one and two variables), and measures the most promising
/// points: points of the predicted front and neighbours of the measured one. The surrogate is therefore most
/// accurate near the front, and learns there what additivity misses below 3 bits.
class FrontStrategy final : public Strategy {
 public:
  FrontStrategy(const StrategySetup& setup, const OptionValues& options)
      : setup_(setup),
        space_(*setup.space),
        budgets_(static_cast<std::size_t>(options.integer("budgets", 2))),
        focus_(options.number("focus")) {
    const std::string& prior = options.text("prior");
    if (prior != "fisher" && prior != "sweep")
      throw UsageError(fmt::format("front: there is no prior {}: use fisher or sweep", prior));
    has_prior_ = prior == "fisher" && has_fisher(space_);
    if (!has_prior_) singles_ = single_points();
    const Effort effort =
        has_prior_ ? (setup.budget ? kFisherAtBudget : kFisher) : (setup.budget ? kSweepAtBudget : kSweep);
    const auto given = [&](std::string_view name, std::int64_t usual, std::int64_t least) {
      return static_cast<std::size_t>(options.text(name) == "auto" ? usual : options.integer(name, least));
    };
    batch_ = given("batch", effort.batch, 1);
    const std::size_t rounds = given(setup.budget ? "rounds-at-budget" : "rounds", effort.rounds, 0);
    rounds_ = setup.evaluations > 0 ? std::numeric_limits<std::size_t>::max() : rounds;
    evaluations_ = setup.evaluations > 0 ? static_cast<std::size_t>(setup.evaluations)
                                         : std::numeric_limits<std::size_t>::max();
  }

  Batch ask() override {
    if (round_ == 0) {
      Batch batch{.points = {space_.smallest()}, .windows = 0, .predicted = {}, .phase = "single changes"};
      if (has_prior_) {
        batch.points.push_back(space_.largest());
        batch.phase = "ends";
        return batch;
      }
      batch.points.insert(batch.points.end(), singles_.begin(), singles_.end());
      // Points beyond the limit are dropped from the end; the surrogate uses medians for what was not
      // measured. A third of the evaluations is reserved for points that the surrogate proposes, because
      // single changes are on the front at its large end only.
      const std::size_t most = evaluations_ - evaluations_ / 3;
      if (batch.points.size() > most) batch.points.resize(std::max<std::size_t>(most, 2));
      return batch;
    }
    return next_round();
  }

  void tell(const Batch& batch, std::span<const Measurement> measurements) override {
    double squares = 0;
    std::size_t compared = 0;
    for (std::size_t i = 0; i < batch.points.size(); ++i) {
      const double divergence = measurements[i].value(setup_.divergence);
      if (!measured_.insert(batch.points[i]).second) continue;
      if (batch.points[i] == space_.smallest()) smallest_ = divergence;
      const bool broken = !std::isfinite(divergence);
      samples_.push_back({batch.points[i], broken ? kBroken : divergence});
      outcomes_.push_back({space_.bits(batch.points[i]), divergence});
      if (!broken) worst_ = std::max(worst_, divergence);
      if (!broken && !batch.predicted.empty()) {
        ++compared;
        const double miss = std::log(std::max(divergence, 1e-12) / std::max(batch.predicted[i], 1e-12));
        squares += miss * miss;
      }
    }
    if (round_ == 0 && !has_prior_) note_sensitivity();
    Note note{"round", {}};
    note.values = {{"round", static_cast<double>(round_)},
                   {"evaluations", static_cast<double>(samples_.size())},
                   {"hypervolume", hypervolume(outcomes_, ideal(), reference())}};
    if (compared > 0)
      note.values.emplace_back("rmse_log", std::sqrt(squares / static_cast<double>(compared)));
    notes_.push_back(std::move(note));
    ++round_;
  }

  std::int64_t planned() const override {
    if (setup_.evaluations > 0) return setup_.evaluations;
    // Assumes as many in every further round as in the rounds so far.
    const std::size_t first = singles_.size() + 1;
    const std::size_t per_round = round_ > 1 ? (samples_.size() - first) / (round_ - 1) : batch_;
    return static_cast<std::int64_t>(first + rounds_ * per_round);
  }
  std::vector<Note> notes() override { return std::exchange(notes_, {}); }

 private:
  /// The largest point, and for every variable its lowest and a middle level alone.
  std::vector<Point> single_points() const {
    std::vector<Point> points = {space_.largest()};
    // Lowest levels first: they are the most informative ones if evaluations are few.
    for (const bool lowest : {true, false}) {
      for (std::size_t i = 0; i < space_.variables.size(); ++i) {
        const std::size_t levels = space_.variables[i].levels.size();
        const std::size_t level = lowest ? 0 : (levels - 1) / 2;
        if (level + 1 >= levels || (!lowest && level == 0)) continue;
        Point point = space_.largest();
        point[i] = static_cast<std::uint8_t>(level);
        points.push_back(std::move(point));
      }
    }
    return points;
  }

  Batch next_round() {
    const std::size_t left = evaluations_ - std::min(evaluations_, samples_.size());
    Batch batch{.points = {}, .windows = 0, .predicted = {}, .phase = fmt::format("round {}", round_)};
    if (left == 0 || round_ > rounds_) return batch;
    const std::vector<Sample> learnt = samples_to_learn(space_, samples_);
    const Surrogate surrogate(
        space_, has_prior_ ? fisher_increases(space_, learnt) : single_increases(space_, samples_), learnt);

    std::vector<Point> centres;
    std::vector<Proposal> best;
    for (const std::size_t index : front(outcomes_)) {
      const Point& point = samples_[index].point;
      centres.push_back(point);
      best.push_back({point, space_.linear_bytes(point), surrogate.predict(point)});
    }
    std::vector<Proposal> candidates = minimise(space_, surrogate, budgets(), best);
    if (has_prior_)
      for (const Proposal& one : candidates) centres.push_back(one.point);
    std::vector<Proposal> near = neighbours(space_, surrogate, centres);
    std::ranges::move(near, std::back_inserter(candidates));
    std::erase_if(candidates, [&](const Proposal& one) { return measured_.contains(one.point); });
    drop_repetitions(candidates);

    if (has_prior_ && setup_.budget &&
        space_.fits(smallest_point(space_, setup_.budget->of), *setup_.budget)) {
      explore_budget(learnt, surrogate, candidates, left, batch);
      return batch;
    }
    for (const std::size_t pick : select(candidates, std::min(kMostPerPass * batch_, left))) {
      batch.points.push_back(candidates[pick].point);
      batch.predicted.push_back(candidates[pick].predicted);
    }
    return batch;
  }

  /// Few measurements at one size: the point that is predicted to be the best, and those that would be the
  /// best if Fisher costs were off in ways that the measurements do not exclude (Thompson sampling). Points
  /// near the predicted one would tell the same once more.
  void explore_budget(std::span<const Sample> learnt, const Surrogate& surrogate,
                      std::span<const Proposal> candidates, std::size_t left, Batch& batch) {
    const auto add = [&](const Point& point) {
      if (batch.points.size() >= left || measured_.contains(point) ||
          std::ranges::find(batch.points, point) != batch.points.end())
        return;
      batch.points.push_back(point);
      batch.predicted.push_back(surrogate.predict(point));
    };
    const Proposal* best = nullptr;
    for (const Proposal& one : candidates)
      if (space_.fits(one.point, *setup_.budget) && (best == nullptr || one.predicted < best->predicted))
        best = &one;
    if (best != nullptr) add(best->point);
    for (std::size_t draw = 1; draw < 2 * batch_ && batch.points.size() < batch_; ++draw) {
      const SingleIncreases drawn = fisher_increases(space_, learnt, &random_);
      add(best_point(space_, drawn.increase, *setup_.budget).levels);
    }
  }

  std::vector<std::size_t> select(std::span<const Proposal> candidates, std::size_t most) const {
    PrefixCost cost(space_, candidates);
    double passes = static_cast<double>(batch_);
    std::vector<std::size_t> picked;
    if (setup_.budget) {
      // A share of the round goes to the best predicted points of the requested size.
      std::vector<std::size_t> fitting;
      for (std::size_t i = 0; i < candidates.size(); ++i)
        if (space_.fits(candidates[i].point, *setup_.budget)) fitting.push_back(i);
      std::ranges::stable_sort(fitting, {}, [&](std::size_t i) { return candidates[i].predicted; });
      for (const std::size_t one : fitting) {
        if (passes <= (1 - focus_) * static_cast<double>(batch_) || picked.size() >= most) break;
        passes -= cost.of(one);
        cost.pick(one);
        picked.push_back(one);
      }
    }
    std::vector<Outcome> expected;
    for (const Proposal& one : candidates) expected.push_back({bits(one.bytes), one.predicted});
    // Points already picked add nothing a second time.
    std::vector<Outcome> taken = outcomes_;
    for (const std::size_t one : picked) taken.push_back(expected[one]);
    for (const std::size_t one : select_by_hypervolume(expected, taken, ideal(), promised_below(), passes,
                                                       most - picked.size(), cost))
      picked.push_back(one);
    return picked;
  }

  /// Budgets spread evenly over the possible sizes, and the user's.
  std::vector<Budget> budgets() const {
    const std::uint64_t least = space_.linear_bytes(space_.smallest());
    const std::uint64_t most = space_.linear_bytes(space_.largest());
    std::vector<Budget> result;
    for (const std::uint64_t bytes : even_budgets(least, most, budgets_))
      result.push_back({bytes, Budget::Of::linears});
    if (setup_.budget && space_.fits(smallest_point(space_, setup_.budget->of), *setup_.budget))
      result.push_back(*setup_.budget);
    return result;
  }

  void note_sensitivity() {
    const SingleIncreases increases = single_increases(space_, samples_);
    for (std::size_t i = 0; i < increases.increase.size(); ++i)
      notes_.push_back({"sensitivity",
                        {{"variable", static_cast<double>(i)},
                         {"divergence", increases.base + increases.increase[i][0]}}});
  }

  double bits(std::uint64_t bytes) const {
    return 8 * static_cast<double>(bytes) / static_cast<double>(space_.parameters);
  }
  Outcome ideal() const { return {space_.bits(space_.smallest()), 0}; }
  /// If the smallest point is not finite, the worst finite point replaces it.
  Outcome reference() const {
    return {space_.bits(space_.largest()), std::isfinite(smallest_) ? smallest_ : worst_};
  }

  /// What a candidate has to be better than. If the smallest point is not finite and nothing else has been
  /// measured yet, the worst finite point is the largest one, and no candidate is better than that.
  Outcome promised_below() const {
    if (std::isfinite(smallest_) || !has_prior_) return reference();
    return {space_.bits(space_.largest()), kBroken};
  }

  StrategySetup setup_;
  const SearchSpace& space_;
  std::size_t batch_ = 0;
  std::size_t budgets_;
  double focus_;
  std::size_t evaluations_ = 0;  ///< most of them
  std::size_t rounds_ = 0;       ///< most of them
  Random random_{setup_.seed};
  bool has_prior_ = false;  ///< Fisher costs instead of single changes
  std::vector<Point> singles_;
  std::size_t round_ = 0;
  std::vector<Sample> samples_;    ///< all finite
  std::vector<Outcome> outcomes_;  ///< of the samples, as measured
  std::set<Point, PointLess> measured_;
  double smallest_ = 0;  ///< divergence of the smallest point
  double worst_ = 0;     ///< largest finite divergence
  std::vector<Note> notes_;
};

}  // namespace

StrategyInfo front_strategy() {
  return {
      "front",
      "Knapsaq's own: Fisher costs or single changes, a surrogate, exact knapsacks; measures where it "
      "promises most",
      {{"rounds", "auto",
        "Rounds; auto: 7 by Fisher costs, 12 after a sweep, a twentieth of AMQ's cost; --evaluations "
        "overrides"},
       {"rounds-at-budget", "auto",
        "The same when one size is requested; auto: 9 by Fisher costs, 6 after a sweep"},
       {"batch", "auto",
        "Full passes in a round; auto: 12 by Fisher costs (3 measurements at one size), 24 after a sweep"},
       {"budgets", "129", "Sizes at which a round searches for the predicted front"},
       {"prior", "fisher",
        "What is known before the first round: fisher (a backward pass told it to the bank; without that "
        "sweep), or sweep (single changes are measured)"},
       {"focus", "0.5", "Share of a round for the requested size, if there is one"}},
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<FrontStrategy>(setup, options);
      }};
}

}  // namespace knapsaq
