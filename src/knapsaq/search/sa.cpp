#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/population_search.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

struct Chain {
  Point point;
  double value = 0;
  Point best;
  double best_value = 0;
};

/// Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983) with a geometric schedule, in independent
/// chains, so that their proposals can be measured as one batch.
class AnnealingSearch final : public PopulationSearch {
 public:
  AnnealingSearch(const StrategySetup& setup, const OptionValues& options)
      : PopulationSearch(setup, options, "sa"),
        chains_wanted_(std::min(static_cast<std::size_t>(options.integer("chains", 1)), population())),
        changes_(options.integer("changes", 1)),
        redraw_(second_of(options, "move", "step", "redraw")),
        start_(options.number("temperature")),
        accept_(share(options, "accept")),
        final_(share(options, "final")) {
    if (!(start_ >= 0)) throw UsageError(fmt::format("option temperature of sa is {}: below 0", start_));
    for (const auto& [name, value] : {std::pair{"accept", accept_}, std::pair{"final", final_}}) {
      if (value == 0 || value == 1)
        throw UsageError(fmt::format("option {} of sa is {}: it has to be between 0 and 1", name, value));
    }
    const auto first = static_cast<std::int64_t>(population());
    const auto chains = static_cast<std::int64_t>(chains_wanted_);
    const std::int64_t steps = std::max<std::int64_t>(1, (questions() - first + chains - 1) / chains);
    const std::int64_t segments = options.integer("restarts", 0) + 1;
    segment_ = std::max<std::int64_t>(1, (steps + segments - 1) / segments);
  }

 private:
  std::vector<Point> propose() override {
    if (step_ > 0 && step_ % segment_ == 0) {
      for (Chain& chain : chains_) {
        chain.point = chain.best;
        chain.value = chain.best_value;
      }
    }
    std::vector<Point> points;
    for (const Chain& chain : chains_) {
      Point point = chain.point;
      for (std::int64_t change = 0; change < changes_ && !free_variables().empty(); ++change) {
        const std::size_t i = free_variables()[random().below(free_variables().size())];
        point[i] = redraw_ ? other_level(i, point[i]) : next_level(i, point[i]);
      }
      points.push_back(std::move(point));
    }
    return points;
  }

  void learn(std::span<const Point> points, std::span<const double> values) override {
    if (chains_.empty()) {
      start(points, values);
      return;
    }
    const double temperature = this->temperature();
    for (std::size_t i = 0; i < points.size(); ++i) {
      Chain& chain = chains_[i];
      const double change = values[i] - chain.value;
      // The number is always drawn: the course of one chain does not shift the others'.
      const double draw = random().uniform();
      if (change > 0 && !(draw < std::exp(-change / temperature))) continue;
      chain.point = points[i];
      chain.value = values[i];
      if (chain.value < chain.best_value) {
        chain.best = chain.point;
        chain.best_value = chain.value;
      }
    }
    ++step_;
  }

  void annotate(Note& note) const override { note.values.emplace_back("temperature", temperature()); }

  /// From start_ to start_ x final_ within every segment.
  double temperature() const {
    const std::int64_t at = step_ % segment_;
    const double share = segment_ > 1 ? static_cast<double>(at) / static_cast<double>(segment_ - 1) : 1.0;
    return start_ * std::pow(final_, share);
  }

  void start(std::span<const Point> points, std::span<const double> values) {
    std::vector<std::size_t> order(points.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
    for (std::size_t i = 0; i < std::min(chains_wanted_, order.size()); ++i) {
      const Point& point = points[order[i]];
      const double value = values[order[i]];
      chains_.push_back({point, value, point, value});
    }
    if (start_ == 0) start_ = estimated_start(values);
  }

  /// The temperature at which a typical worsening is accepted with probability accept_. Random points of n
  /// additive variables differ by sqrt(n) times as much as neighbours, which differ in one; so the typical
  /// worsening is sqrt(2 / n) standard deviations of the first population.
  double estimated_start(std::span<const double> values) const {
    double sum = 0;
    double squares = 0;
    double count = 0;
    for (const double value : values) {
      if (value >= kWorthless) continue;
      sum += value;
      ++count;
    }
    for (const double value : values) {
      if (value < kWorthless) squares += (value - sum / count) * (value - sum / count);
    }
    const auto variables = static_cast<double>(std::max<std::size_t>(1, free_variables().size()));
    const double worsening = count > 1 ? std::sqrt(2 / variables * squares / (count - 1)) : 0;
    // Equal values (or a single one) give no scale; then only improvements are accepted.
    constexpr double kCold = 1e-300;
    return std::max(kCold, worsening / -std::log(accept_));
  }

  std::size_t chains_wanted_;
  std::int64_t changes_;
  bool redraw_;
  double start_;
  double accept_;
  double final_;
  std::int64_t segment_ = 1;  ///< steps between restarts
  std::int64_t step_ = 0;
  std::vector<Chain> chains_;
};

}  // namespace

StrategyInfo sa_strategy() {
  return {
      "sa", "simulated annealing: geometric schedule, several chains, restarts",
      PopulationSearch::options(
          {{"chains", "1",
            "chains that start at the best points of the first population, measured as a batch. Each gets "
            "its "
            "share of the questions, and a hundred are few: one chain finds most, more finish sooner"},
           {"changes", "1", "variables changed by a move; 2 found less"},
           {"move", "redraw", "redraw: any other level; step: one up or down"},
           {"temperature", "0",
            "start temperature in units of the goal; 0: from the first population, as scales of goals "
            "differ"},
           {"accept", "0.1",
            "chance of a typical worsening at an estimated start temperature; low, as short runs cannot "
            "cool"},
           {"final", "0.01",
            "end temperature as a share of the start's: there only improvements are accepted"},
           {"restarts", "0",
            "times that the schedule begins again, each chain from its best point; 1 and 3 gained nothing"}}),
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<AnnealingSearch>(setup, options);
      }};
}

}  // namespace knapsaq
