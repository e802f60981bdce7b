#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/search/population_search.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

/// Differential evolution (Storn and Price 1997) on levels: mutants are computed in real numbers and rounded.
class DifferentialSearch final : public PopulationSearch {
 public:
  DifferentialSearch(const StrategySetup& setup, const OptionValues& options)
      : PopulationSearch(setup, options, "de"),
        best_(second_of(options, "variant", "rand/1/bin", "best/1/bin")),
        factor_(options.number("factor")),
        dither_(options.number("dither")),
        crossover_(share(options, "crossover")) {
    if (population() < 4) {
      throw UsageError(fmt::format("de needs a population of at least 4 (a target and three others), not {}",
                                   population()));
    }
    if (!(factor_ > 0) || !(dither_ >= 0))
      throw UsageError("de: factor has to be above 0 and dither not below 0");
  }

 private:
  std::vector<Point> propose() override {
    const std::size_t leader =
        static_cast<std::size_t>(std::min_element(values_.begin(), values_.end()) - values_.begin());
    std::vector<Point> trials;
    for (std::size_t target = 0; target < points_.size(); ++target) {
      const std::size_t a = best_ ? leader : another({target});
      const std::size_t b = another({target, a});
      const std::size_t c = another({target, a, b});
      const double factor = factor_ + dither_ * random().uniform();
      Point trial = points_[target];
      const std::vector<std::size_t>& free = free_variables();
      const std::size_t always = free.empty() ? 0 : random().below(free.size());
      for (std::size_t d = 0; d < free.size(); ++d) {
        const bool crossed = random().uniform() < crossover_;
        if (!crossed && d != always) continue;
        const std::size_t i = free[d];
        const double mutant =
            static_cast<double>(points_[a][i]) +
            factor * (static_cast<double>(points_[b][i]) - static_cast<double>(points_[c][i]));
        const auto last = static_cast<double>(levels(i) - 1);
        trial[i] = static_cast<std::uint8_t>(std::lround(std::clamp(mutant, 0.0, last)));
      }
      trials.push_back(std::move(trial));
    }
    return trials;
  }

  void learn(std::span<const Point> points, std::span<const double> values) override {
    if (points_.empty()) {
      points_.assign(points.begin(), points.end());
      values_.assign(values.begin(), values.end());
      return;
    }
    for (std::size_t i = 0; i < points.size(); ++i) {
      // Equals replace their target: the population can drift over plateaus.
      if (values[i] > values_[i]) continue;
      points_[i] = points[i];
      values_[i] = values[i];
    }
  }

  /// A random member that is none of these.
  std::size_t another(std::initializer_list<std::size_t> taken) {
    std::size_t draw = random().below(points_.size());
    while (std::find(taken.begin(), taken.end(), draw) != taken.end()) draw = random().below(points_.size());
    return draw;
  }

  bool best_;
  double factor_;
  double dither_;
  double crossover_;
  std::vector<Point> points_;
  std::vector<double> values_;
};

}  // namespace

StrategyInfo de_strategy() {
  return {
      "de", "differential evolution: rand/1/bin or best/1/bin, rounded to levels",
      PopulationSearch::options(
          {{"variant", "best/1/bin",
            "best/1/bin or rand/1/bin; the greedier one, since rand/1/bin hardly moves in ten epochs"},
           {"factor", "0.3",
            "least weight of the difference of two members; below the usual 0.4 to 1, so that on few levels "
            "rounding drops the small differences"},
           {"dither", "0.3",
            "the weight of each trial is drawn from factor to factor + dither: with a fixed one, rounding "
            "would "
            "allow few different steps"},
           {"crossover", "0.5", "chance of each variable to come from the mutant; 0.2 and 0.9 found less"}}),
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<DifferentialSearch>(setup, options);
      }};
}

}  // namespace knapsaq
