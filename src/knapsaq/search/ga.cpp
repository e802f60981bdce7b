#include <algorithm>
#include <numeric>
#include <utility>

#include "knapsaq/search/population_search.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

struct Member {
  Point point;
  double value = 0;
};

/// A genetic algorithm on levels (Holland 1975; Goldberg 1989).
class GeneticSearch final : public PopulationSearch {
 public:
  GeneticSearch(const StrategySetup& setup, const OptionValues& options)
      : PopulationSearch(setup, options, "ga"),
        tournament_(options.integer("tournament", 1)),
        crossover_rate_(share(options, "crossover-rate")),
        one_point_(second_of(options, "crossover", "uniform", "one-point")),
        mutation_rate_(share(options, "mutation-rate")),
        redraw_(second_of(options, "mutation", "step", "redraw")),
        elitism_(static_cast<std::size_t>(options.integer("elitism", 0))) {
    if (mutation_rate_ == 0 && !free_variables().empty())
      mutation_rate_ = 1.0 / static_cast<double>(free_variables().size());
  }

 private:
  std::vector<Point> propose() override {
    std::vector<Point> children;
    while (children.size() < population()) {
      Point a = select().point;
      Point b = select().point;
      if (random().uniform() < crossover_rate_) cross(a, b);
      mutate(a);
      mutate(b);
      children.push_back(std::move(a));
      if (children.size() < population()) children.push_back(std::move(b));
    }
    return children;
  }

  void learn(std::span<const Point> points, std::span<const double> values) override {
    std::vector<Member> next;
    for (std::size_t i = 0; i < points.size(); ++i) next.push_back({points[i], values[i]});
    // members_ is sorted. Children come first, so of equals the new one stays: the population can drift.
    const std::size_t kept = std::min(elitism_, members_.size());
    next.insert(next.end(), members_.begin(), members_.begin() + static_cast<std::ptrdiff_t>(kept));
    std::stable_sort(next.begin(), next.end(),
                     [](const Member& a, const Member& b) { return a.value < b.value; });
    if (next.size() > population()) next.resize(population());
    members_ = std::move(next);
  }

  const Member& select() {
    std::size_t best = members_.size();
    for (std::int64_t draw = 0; draw < tournament_; ++draw)
      best = std::min<std::size_t>(best, random().below(members_.size()));
    return members_[best];
  }

  void cross(Point& a, Point& b) {
    if (one_point_) {
      const std::size_t cut = random().below(a.size() + 1);
      std::swap_ranges(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(cut), b.begin());
      return;
    }
    for (const std::size_t i : free_variables()) {
      if (random().below(2) == 1) std::swap(a[i], b[i]);
    }
  }

  void mutate(Point& point) {
    for (const std::size_t i : free_variables()) {
      if (random().uniform() < mutation_rate_)
        point[i] = redraw_ ? other_level(i, point[i]) : next_level(i, point[i]);
    }
  }

  std::int64_t tournament_;
  double crossover_rate_;
  bool one_point_;
  double mutation_rate_;
  bool redraw_;
  std::size_t elitism_;
  std::vector<Member> members_;  ///< ascending by value
};

}  // namespace

StrategyInfo ga_strategy() {
  return {
      "ga", "genetic algorithm: tournaments, crossover, mutation, elitism",
      PopulationSearch::options(
          {{"tournament", "5",
            "members drawn for each parent, of which the best is taken; 2 is the gentlest. With about a "
            "hundred "
            "questions a strong push found better points than 2 or 3 on all made problems"},
           {"crossover-rate", "0.9", "share of pairs that are crossed; the usual range is 0.6 to 0.95"},
           {"crossover", "uniform",
            "uniform or one-point; uniform, since the order of variables means little"},
           {"mutation-rate", "0",
            "chance of each variable to be changed; 0: one over their number, one change per child on "
            "average "
            "(Muehlenbein 1992)"},
           {"mutation", "redraw",
            "redraw: any other level; step: one up or down. With three levels they differ little, with many "
            "a "
            "step takes long"},
           {"elitism", "10",
            "members that compete with the children for their places; 1: only the best. A whole population "
            "of "
            "them loses nothing that was paid for, and fresh=1 keeps it from going stale"}}),
      [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<GeneticSearch>(setup, options);
      }};
}

}  // namespace knapsaq
