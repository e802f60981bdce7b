#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/amq/mlp.h"
#include "knapsaq/search/amq/nsga2.h"
#include "knapsaq/search/amq/rbf.h"
#include "knapsaq/search/amq/subset_selection.h"
#include "knapsaq/search/amq/vary_levels.h"
#include "knapsaq/search/correlation.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/front/fisher_increases.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/statistics.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

// Draws, in multiples of the wanted points, before a space counts as exhausted.
constexpr std::size_t kTries = 100;

struct Settings {
  double threshold = 0;
  std::size_t initial = 0;
  std::int64_t rounds = 0;
  std::size_t per_round = 0;
  nsga2::Options nsga2;
  LevelVariation variation;
  SubsetOptions subset;
  bool fisher = false;  ///< sensitivity by Fisher costs
  bool mlp = false;
  double damping = 0;
  MlpOptions mlp_options;
  bool faithful = false;

  Settings(const OptionValues& options, std::uint64_t seed)
      : threshold(options.number("threshold")),
        initial(static_cast<std::size_t>(options.integer("initial", 1))),
        rounds(options.integer("rounds")),
        per_round(static_cast<std::size_t>(options.integer("per-round", 1))),
        damping(options.number("damping")),
        faithful(options.flag("faithful")) {
    nsga2.population = static_cast<std::size_t>(options.integer("population", 2));
    nsga2.generations = static_cast<std::size_t>(options.integer("generations", 1));
    variation.crossover = options.number("crossover");
    variation.mutation = options.number("mutation");
    variation.redraw = faithful;
    subset.population = static_cast<std::size_t>(options.integer("subset-population", 1));
    subset.generations = static_cast<std::size_t>(options.integer("subset-generations", 1));
    const std::string& sensitivity = options.text("sensitivity");
    if (sensitivity != "measured" && sensitivity != "fisher")
      throw UsageError(fmt::format("amq: unknown sensitivity '{}': use measured or fisher", sensitivity));
    fisher = sensitivity == "fisher";
    const std::string& predictor = options.text("predictor");
    if (predictor != "rbf" && predictor != "mlp")
      throw UsageError(fmt::format("amq: unknown predictor '{}': use rbf or mlp", predictor));
    mlp = predictor == "mlp";
    mlp_options.layers = static_cast<std::size_t>(options.integer("mlp-layers", 1));
    mlp_options.width = static_cast<std::size_t>(options.integer("mlp-width", 1));
    mlp_options.rate = options.number("mlp-rate");
    mlp_options.batch = static_cast<std::size_t>(options.integer("mlp-batch", 1));
    mlp_options.first_steps = options.integer("mlp-first-steps");
    mlp_options.more_steps = options.integer("mlp-more-steps");
    mlp_options.seed = seed;
    if (!(threshold >= 0 && damping >= 0))
      throw UsageError("amq: threshold and damping must not be negative");
    for (const char* const name : {"crossover", "mutation"})
      if (const double value = options.number(name); !(value >= 0 && value <= 1))
        throw UsageError(fmt::format("amq: {} is a probability, not {}", name, value));
  }
};

void add_finite(Note& note, std::string_view name, double value) {
  if (std::isfinite(value)) note.values.emplace_back(name, value);
}

class Amq : public Strategy {
 public:
  Amq(const StrategySetup& setup, const OptionValues& options)
      : setup_(setup),
        space_(*setup.space),
        settings_(options, setup.seed),
        random_(setup.seed),
        evaluations_(setup.evaluations > 0 ? static_cast<std::size_t>(setup.evaluations)
                                           : std::numeric_limits<std::size_t>::max()),
        left_(evaluations_) {
    for (std::size_t v = 0; v < space_.variables.size(); ++v)
      if (space_.variables[v].levels.size() > 1) free_.push_back(v);
    phase_ = settings_.threshold > 0 && !free_.empty() ? Phase::sensitivity : Phase::initial;
    if (settings_.fisher && phase_ == Phase::sensitivity) {
      if (!has_fisher(space_))
        throw UsageError(
            "amq: the bank knows no Fisher costs: build it with --fisher, or use sensitivity=measured");
      std::vector<double> costs;
      for (const std::size_t v : free_) {
        const std::vector<SpaceLevel>& levels = space_.variables[v].levels;
        costs.push_back(levels.front().error_by(Cost::fisher) - levels.back().error_by(Cost::fisher));
      }
      prune(costs);
      phase_ = Phase::initial;
    }
  }

  Batch ask() override {
    Batch batch;
    switch (phase_) {
      case Phase::sensitivity:
        batch.phase = "sensitivity";
        batch.points = single_drops();
        break;
      case Phase::initial:
        batch.phase = "initial";
        batch.points = initial_points();
        break;
      case Phase::rounds:
        if (round_ == settings_.rounds || left_ == 0) break;
        ++round_;
        batch.phase = fmt::format("round {}", round_);
        find_candidates(batch);
        break;
    }
    if (batch.points.size() > left_) {
      batch.points.resize(left_);
      batch.predicted.resize(std::min(batch.predicted.size(), left_));
    }
    left_ -= batch.points.size();
    return batch;
  }

  void tell(const Batch& batch, std::span<const Measurement> measurements) override {
    std::vector<double> values;
    for (std::size_t i = 0; i < batch.points.size(); ++i) {
      values.push_back(measurements[i].value(setup_.divergence));
      measured_.push_back({space_.bits(batch.points[i]), values.back()});
      if (batch.points[i] == space_.smallest()) worst_ = values.back();
    }
    if (phase_ == Phase::sensitivity) {
      prune(values);
      phase_ = Phase::initial;
      return;
    }
    for (std::size_t i = 0; i < batch.points.size(); ++i) {
      known_.insert(batch.points[i]);
      points_.push_back(batch.points[i]);
      outcomes_.push_back({space_.bits(batch.points[i]), values[i]});
    }
    if (phase_ == Phase::rounds) note_round(batch, values);
    phase_ = Phase::rounds;
  }

  std::int64_t planned() const override {
    const std::size_t asked = evaluations_ - left_;
    // Between ask() and tell(), the phase's own points are among those asked.
    const bool asking = asked == measured_.size();
    std::size_t planned = asked;
    if (phase_ == Phase::sensitivity && asking) planned += free_.size() + 1;
    if (phase_ == Phase::sensitivity || (phase_ == Phase::initial && asking)) planned += initial_count();
    if (!free_.empty()) planned += static_cast<std::size_t>(settings_.rounds - round_) * settings_.per_round;
    return static_cast<std::int64_t>(std::min(planned, evaluations_));
  }

  std::vector<Note> notes() override { return std::exchange(notes_, {}); }

 private:
  enum class Phase : std::uint8_t { sensitivity, initial, rounds };

  std::vector<Point> single_drops() const {
    std::vector<Point> points;
    for (const std::size_t v : free_) {
      points.push_back(space_.largest());
      points.back()[v] = 0;
    }
    points.push_back(space_.smallest());
    return points;
  }

  void prune(std::span<const double> values) {
    // The last one is the smallest point's, unless the evaluations ended before.
    std::vector<double> drops(
        values.begin(), values.begin() + static_cast<std::ptrdiff_t>(std::min(values.size(), free_.size())));
    for (double& drop : drops)
      if (!std::isfinite(drop)) drop = std::numeric_limits<double>::infinity();
    const double most = settings_.threshold * median(drops);
    std::vector<std::size_t> kept;
    for (std::size_t i = 0; i < free_.size(); ++i) {
      const bool pruned = i < drops.size() && drops[i] > most;
      if (!pruned) kept.push_back(free_[i]);
      if (i == drops.size()) break;
      Note note{"sensitivity", {{"variable", static_cast<double>(free_[i])}}};
      add_finite(note, "divergence", drops[i]);
      note.values.emplace_back("pruned", pruned ? 1 : 0);
      notes_.push_back(std::move(note));
    }
    free_ = std::move(kept);
  }

  std::size_t levels(std::size_t variable) const { return space_.variables[variable].levels.size(); }

  /// The level at `step` of `steps` equal ones from the smallest to the largest.
  std::uint8_t level_at(std::size_t variable, std::size_t step, std::size_t steps) const {
    const std::size_t last = levels(variable) - 1;
    return static_cast<std::uint8_t>((2 * step * last + (steps - 1)) / (2 * (steps - 1)));
  }

  std::size_t most_levels() const {
    std::size_t most = 1;
    for (const std::size_t v : free_) most = std::max(most, levels(v));
    return most;
  }

  /// A point as AMQ draws it: the frequency of each level is itself drawn, for the whole point.
  Point draw() {
    const std::size_t steps = most_levels();
    std::vector<double> weights(steps);
    double total = 0;
    for (double& weight : weights) total += weight = random_.uniform();
    Point point = space_.largest();
    for (const std::size_t v : free_) {
      double rest = random_.uniform() * total;
      std::size_t step = 0;
      while (step + 1 < steps && rest >= weights[step]) rest -= weights[step++];
      point[v] = level_at(v, step, steps);
    }
    return point;
  }

  /// Adds new points until there are `count`, or until the space seems to have no more.
  void draw_new(std::vector<Point>& points, std::size_t count) {
    std::set<Point, PointLess> drawn(points.begin(), points.end());
    for (std::size_t tries = 0; points.size() < count && tries < kTries * count; ++tries) {
      Point point = draw();
      if (!known_.contains(point) && drawn.insert(point).second) points.push_back(std::move(point));
    }
  }

  std::vector<Point> initial_points() {
    std::vector<Point> points;
    const std::size_t steps = most_levels();
    for (std::size_t step = 0; step < steps; ++step) {
      Point point = space_.largest();
      for (const std::size_t v : free_) point[v] = level_at(v, step, steps);
      points.push_back(std::move(point));
    }
    if (steps > 1) draw_new(points, initial_count());
    return points;
  }

  /// Points before the first round, unless the space has fewer. A linear tail needs one more point than there
  /// are variables, and only then is there anything to fit.
  std::size_t initial_count() const {
    return free_.empty() ? 1 : std::max(settings_.initial, free_.size() + 2);
  }

  nsga2::Genes genes_of(const Point& point) const {
    nsga2::Genes genes;
    for (const std::size_t v : free_) genes.push_back(point[v]);
    return genes;
  }

  Point point_of(const nsga2::Genes& genes) const {
    Point point = space_.largest();
    for (std::size_t i = 0; i < free_.size(); ++i) point[free_[i]] = static_cast<std::uint8_t>(genes[i]);
    return point;
  }

  /// Levels of the free variables between 0 and 1, appended.
  void scale(const nsga2::Genes& genes, std::vector<double>& scaled) const {
    for (std::size_t i = 0; i < free_.size(); ++i)
      scaled.push_back(genes[i] / static_cast<double>(levels(free_[i]) - 1));
  }

  /// Gives the predictor the points since the last time.
  void learn() {
    if (!predictor_) {
      if (settings_.mlp) {
        predictor_ = std::make_unique<Mlp>(free_.size(), settings_.mlp_options);
      } else {
        predictor_ = std::make_unique<CubicRbf>(free_.size(), settings_.damping);
      }
    }
    std::vector<double> scaled;
    std::vector<double> values;
    for (; learned_ < points_.size(); ++learned_) {
      if (!std::isfinite(outcomes_[learned_].divergence)) continue;
      scale(genes_of(points_[learned_]), scaled);
      values.push_back(outcomes_[learned_].divergence);
    }
    predictor_->add(scaled, values);
  }

  void find_candidates(Batch& batch) {
    const std::vector<std::size_t> front_indices = front(outcomes_);
    if (free_.empty() || front_indices.empty()) return;
    learn();
    std::vector<nsga2::Genes> seeds;
    std::vector<double> front_sizes;
    for (const std::size_t i : front_indices) {
      seeds.push_back(genes_of(points_[i]));
      front_sizes.push_back(outcomes_[i].size);
    }
    std::vector<std::size_t> counts;
    for (const std::size_t v : free_) counts.push_back(levels(v));
    std::vector<nsga2::Individual> seen;  // new points that NSGA-II found
    const auto evaluate = [&](std::span<const nsga2::Genes> genes) {
      check_cancelled();
      std::vector<double> scaled;
      scaled.reserve(genes.size() * free_.size());
      for (const nsga2::Genes& one : genes) scale(one, scaled);
      const std::vector<double> predicted = predictor_->predict(scaled);
      std::vector<nsga2::Objectives> objectives;
      for (std::size_t i = 0; i < genes.size(); ++i) {
        objectives.push_back({predicted[i], space_.bits(point_of(genes[i]))});
        if (!known_.contains(point_of(genes[i])))
          seen.push_back({.genes = genes[i], .objectives = objectives.back()});
      }
      return objectives;
    };
    const auto vary = [&](const nsga2::Genes& first, const nsga2::Genes& second, Random& random) {
      return std::vector<nsga2::Genes>{vary_levels(first, second, counts, settings_.variation, random)};
    };
    std::vector<nsga2::Individual> candidates;
    for (nsga2::Individual& one : nsga2::run(seeds, settings_.nsga2, evaluate, vary, random_))
      if (!known_.contains(point_of(one.genes))) candidates.push_back(std::move(one));
    candidates_ = candidates.size();
    if (!settings_.faithful && candidates.size() < settings_.per_round) top_up(candidates, std::move(seen));
    std::vector<double> sizes;
    for (const nsga2::Individual& one : candidates) sizes.push_back(one.objectives[1]);
    for (const std::size_t i :
         select_subset(sizes, front_sizes, settings_.per_round, settings_.subset, random_)) {
      batch.points.push_back(point_of(candidates[i].genes));
      batch.predicted.push_back(candidates[i].objectives[0]);
    }
    if (batch.points.empty()) {  // NSGA-II found nothing new: any new point will do
      draw_new(batch.points, settings_.per_round);
      std::vector<double> scaled;
      for (const Point& point : batch.points) scale(genes_of(point), scaled);
      batch.predicted = predictor_->predict(scaled);
    }
  }

  /// If the front has more points than NSGA-II's population, they leave no room in it for new ones. Then the
  /// new ones that NSGA-II found are used: the best of them, as by its survival.
  void top_up(std::vector<nsga2::Individual>& candidates, std::vector<nsga2::Individual> seen) const {
    std::set<nsga2::Genes> have;
    for (const nsga2::Individual& one : candidates) have.insert(one.genes);
    std::erase_if(seen, [&](const nsga2::Individual& one) { return !have.insert(one.genes).second; });
    nsga2::survive(seen, settings_.per_round - candidates.size());
    std::move(seen.begin(), seen.end(), std::back_inserter(candidates));
  }

  void note_round(const Batch& batch, std::span<const double> values) {
    Note note{"round", {}};
    add_finite(note, "round", static_cast<double>(round_));
    add_finite(note, "evaluations", static_cast<double>(measured_.size()));
    double worst = worst_;
    if (!std::isfinite(worst)) {  // the smallest point was not measured, or its model is not finite
      worst = 0;
      for (const Outcome& one : measured_)
        if (std::isfinite(one.divergence)) worst = std::max(worst, one.divergence);
    }
    add_finite(
        note, "hypervolume",
        hypervolume(measured_, {space_.bits(space_.smallest()), 0}, {space_.bits(space_.largest()), worst}));
    add_finite(note, "front", static_cast<double>(front(measured_).size()));
    add_finite(note, "candidates", static_cast<double>(candidates_));
    add_finite(note, "asked", static_cast<double>(batch.points.size()));
    std::vector<double> predicted;
    std::vector<double> measured;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) continue;
      predicted.push_back(batch.predicted[i]);
      measured.push_back(values[i]);
    }
    add_finite(note, "rmse", rmse(predicted, measured));
    add_finite(note, "spearman", spearman(predicted, measured));
    add_finite(note, "kendall", kendall(predicted, measured));
    notes_.push_back(std::move(note));
  }

  StrategySetup setup_;
  const SearchSpace& space_;
  Settings settings_;
  Random random_;
  std::size_t evaluations_;        ///< most of them
  std::size_t left_;               ///< remaining evaluations
  std::vector<std::size_t> free_;  ///< variables that are searched: the others stay at their largest level
  Phase phase_ = Phase::initial;
  std::int64_t round_ = 0;
  std::vector<Outcome> measured_;                            ///< all of them
  double worst_ = std::numeric_limits<double>::quiet_NaN();  ///< divergence of the smallest point
  std::vector<Point> points_;                                ///< AMQ's archive: all but the sensitivity's
  std::vector<Outcome> outcomes_;                            ///< of points_
  std::set<Point, PointLess> known_;                         ///< points_
  std::unique_ptr<Predictor> predictor_;
  std::size_t learned_ = 0;  ///< points_ that the predictor has been given
  std::size_t candidates_ = 0;
  std::vector<Note> notes_;
};

}  // namespace

StrategyInfo amq_strategy() {
  return {
      "amq",
      "AMQ: a predictor of the divergence, searched by NSGA-II, refined by 50 measurements a round",
      {
          {"threshold", "2",
           "variables whose sensitivity exceeds this many times the median stay at their largest level; 0: "
           "no "
           "sensitivity pass"},
          {"sensitivity", "measured",
           "measured: a measurement for every variable; fisher: Fisher costs, none (the bank has to know "
           "them)"},
          {"initial", "250", "points measured before the first round; at least two more than variables"},
          {"rounds", "200", "of predictor, NSGA-II and measurements"},
          {"per-round", "50", "points measured in a round"},
          {"predictor", "rbf", "rbf: cubic radial basis functions; mlp: a perceptron"},
          {"damping", "1e-6", "added to the diagonal of the radial basis functions' matrix"},
          {"population", "200", "of NSGA-II"},
          {"generations", "20", "of NSGA-II, the initial population's included"},
          {"crossover", "0.9", "probability that a child mixes its parents' levels instead of copying one"},
          {"mutation", "0.1", "probability that a child is changed"},
          {"faithful", "0",
           "1: a changed child is drawn anew, every level of it, as in AMQ's code; 0: some of its levels "
           "move "
           "one up or down. (AMQ's small calibration set and half-precision divergence are the run's to "
           "set)"},
          {"subset-population", "100",
           "of the genetic algorithm that spreads a round's points over the sizes"},
          {"subset-generations", "60", "of the same"},
          {"mlp-layers", "3", "hidden layers of the perceptron"},
          {"mlp-width", "300", "units of each"},
          {"mlp-rate", "8e-4", "Adam's step at the beginning of each round, falling along a cosine"},
          {"mlp-batch", "128", "points of one training step"},
          {"mlp-first-steps", "2000", "training steps before the first round"},
          {"mlp-more-steps", "200", "training steps before every later round"},
      },
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<Amq>(setup, options);
      }};
}

}  // namespace knapsaq
