#include "knapsaq/search/relaxation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace knapsaq {
namespace {

/// Sums of sizes stay below 2^52 units, also after rounding up: doubles hold every integer up to 2^53.
constexpr int kExactBits = 52;

/// The exponent of the lowest set bit of a positive double: 12 -> 2, 0.75 -> -2.
int lowest_bit(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  const auto mantissa = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
  return exponent - 53 + std::countr_zero(mantissa);
}

/// The k for which sizes times 2^k are integers; limited so that their sum stays exact.
int binary_places(const Problem& problem) {
  double total = 0;
  int places = std::numeric_limits<int>::min();
  for (const std::vector<Choice>& item : problem.items) {
    double largest = 0;
    for (const Choice& choice : item) {
      if (choice.size > 0) places = std::max(places, -lowest_bit(choice.size));
      largest = std::max(largest, choice.size);
    }
    total += largest;
  }
  if (total == 0) return 0;
  return std::min(places, kExactBits - 1 - std::ilogb(total));
}

void append_hull(const std::vector<Level>& levels, std::size_t item, std::vector<HullStep>& steps) {
  const std::size_t first = steps.size();
  for (std::size_t next = 1; next < levels.size(); ++next) {
    std::size_t from = steps.size() == first ? 0 : steps.back().to;
    HullStep step;
    for (;;) {
      step = {item, from, next, levels[from].cost - levels[next].cost,
              levels[next].weight - levels[from].weight};
      // A step that saves more per unit than the preceding one makes the corner between them concave.
      if (steps.size() == first || step.rate() < steps.back().rate()) break;
      from = steps.back().from;
      steps.pop_back();
    }
    steps.push_back(step);
  }
}

double priced(const Level& level, double price) {
  return level.cost + price * static_cast<double>(level.weight);
}

double least_priced(const std::vector<Level>& levels, double price) {
  double least = std::numeric_limits<double>::infinity();
  for (const Level& level : levels) least = std::min(least, priced(level, price));
  return least;
}

}  // namespace

ExactProblem make_exact(const Problem& problem) {
  const int places = binary_places(problem);
  ExactProblem exact;
  exact.items.reserve(problem.items.size());
  double smallest_total = 0;
  std::int64_t divisor = 0;
  for (const std::vector<Choice>& item : problem.items) {
    std::vector<std::size_t> order(item.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      if (item[a].size != item[b].size) return item[a].size < item[b].size;
      if (item[a].cost != item[b].cost) return item[a].cost < item[b].cost;
      return a < b;
    });
    std::vector<Level> levels;
    const auto units = [&](std::size_t choice) {
      return static_cast<std::int64_t>(std::ceil(std::ldexp(item[choice].size, places)));
    };
    const std::int64_t smallest = units(order.front());
    smallest_total += static_cast<double>(smallest);
    for (const std::size_t choice : order) {
      if (!levels.empty() && item[choice].cost >= levels.back().cost) continue;
      const Level level{item[choice].cost, units(choice) - smallest, choice};
      // Rounding up may have made two sizes equal.
      if (!levels.empty() && levels.back().weight == level.weight) {
        levels.back() = level;
      } else {
        levels.push_back(level);
      }
    }
    const double cheapest = levels.back().cost;
    exact.least_cost += cheapest;
    for (Level& level : levels) {
      level.cost -= cheapest;
      divisor = std::gcd(divisor, level.weight);
    }
    exact.items.push_back(std::move(levels));
  }
  const double room = std::floor(std::ldexp(problem.budget, places)) - smallest_total;
  // Rounding up can raise the smallest sizes above a budget that equals their sum.
  exact.capacity = static_cast<std::int64_t>(std::clamp(room, 0.0, std::ldexp(1.0, kExactBits)));
  exact.unit = std::ldexp(static_cast<double>(std::max(divisor, std::int64_t{1})), -places);
  if (divisor > 1) {
    for (std::vector<Level>& levels : exact.items) {
      for (Level& level : levels) level.weight /= divisor;
    }
    exact.capacity /= divisor;
  }
  return exact;
}

double total_cost(const ExactProblem& problem, const Levels& levels) {
  double cost = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) cost += problem.items[i][levels[i]].cost;
  return cost;
}

std::int64_t total_weight(const ExactProblem& problem, const Levels& levels) {
  std::int64_t weight = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) weight += problem.items[i][levels[i]].weight;
  return weight;
}

std::vector<HullStep> hull_steps(const ExactProblem& problem) {
  std::vector<HullStep> steps;
  for (std::size_t i = 0; i < problem.items.size(); ++i) append_hull(problem.items[i], i, steps);
  std::stable_sort(steps.begin(), steps.end(),
                   [](const HullStep& a, const HullStep& b) { return a.rate() > b.rate(); });
  return steps;
}

Relaxation relax(const ExactProblem& problem) {
  const std::vector<HullStep> steps = hull_steps(problem);
  Relaxation relaxation;
  relaxation.rounded.assign(problem.items.size(), 0);
  std::int64_t room = problem.capacity;
  bool critical = false;
  for (const HullStep& step : steps) {
    if (step.weight > room && !critical) {
      critical = true;
      relaxation.price = step.rate();
    }
    // After the critical step, the remaining room is given to steps that fit and whose item has reached them.
    if (step.weight <= room && relaxation.rounded[step.item] == step.from) {
      relaxation.rounded[step.item] = step.to;
      room -= step.weight;
    }
  }
  // Weak duality: every price >= 0 gives a bound, so rounding errors in the price cannot make it wrong.
  relaxation.bound = -relaxation.price * static_cast<double>(problem.capacity);
  for (const std::vector<Level>& levels : problem.items)
    relaxation.bound += least_priced(levels, relaxation.price);
  return relaxation;
}

void improve(const ExactProblem& problem, Levels& levels) {
  struct Move {
    std::size_t item;
    std::size_t to;
    double saved;
    std::int64_t weight;
  };
  std::int64_t room = problem.capacity - total_weight(problem, levels);
  for (;;) {
    std::vector<Move> moves;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const Level& now = problem.items[i][levels[i]];
      for (std::size_t to = 0; to < problem.items[i].size(); ++to) {
        const Level& then = problem.items[i][to];
        if (to != levels[i]) moves.push_back({i, to, now.cost - then.cost, then.weight - now.weight});
      }
    }
    // Moves by weight, and for every prefix its two best savers of different items: one binary search then
    // finds the best partner of a move.
    std::stable_sort(moves.begin(), moves.end(),
                     [](const Move& a, const Move& b) { return a.weight < b.weight; });
    constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
    std::vector<std::pair<std::size_t, std::size_t>> best(moves.size() + 1, {kNone, kNone});
    for (std::size_t m = 0; m < moves.size(); ++m) {
      auto [one, two] = best[m];
      if (one == kNone || moves[m].saved > moves[one].saved) {
        if (one != kNone && moves[one].item != moves[m].item) two = one;
        one = m;
      } else if (moves[m].item != moves[one].item && (two == kNone || moves[m].saved > moves[two].saved)) {
        two = m;
      }
      best[m + 1] = {one, two};
    }
    const auto fitting = [&](std::int64_t weight) {
      return static_cast<std::size_t>(
          std::upper_bound(moves.begin(), moves.end(), weight,
                           [](std::int64_t limit, const Move& move) { return limit < move.weight; }) -
          moves.begin());
    };
    double most = 0;
    std::size_t first = kNone;
    std::size_t second = kNone;
    if (const std::size_t alone = best[fitting(room)].first; alone != kNone && moves[alone].saved > most) {
      most = moves[alone].saved;
      first = alone;
    }
    for (std::size_t m = 0; m < moves.size(); ++m) {
      const auto [one, two] = best[fitting(room - moves[m].weight)];
      const std::size_t partner = one != kNone && moves[one].item == moves[m].item ? two : one;
      if (partner == kNone || !(moves[m].saved + moves[partner].saved > most)) continue;
      most = moves[m].saved + moves[partner].saved;
      first = m;
      second = partner;
    }
    // Below this, differences are rounding errors of the sums, and the search might cycle.
    if (first == kNone || most <= 1e-12 * total_cost(problem, levels)) return;
    for (const std::size_t m : {first, second}) {
      if (m == kNone) continue;
      levels[moves[m].item] = moves[m].to;
      room -= moves[m].weight;
    }
  }
}

ExactProblem keep_promising(const ExactProblem& problem, const Relaxation& relaxation, double cost) {
  // The rounding error of sums of these magnitudes; keeping a level too many does no harm.
  const double slack = 1e-12 * (std::abs(cost) + std::abs(relaxation.bound));
  const double allowed = cost - relaxation.bound + slack;
  ExactProblem kept;
  kept.capacity = problem.capacity;
  kept.least_cost = problem.least_cost;
  kept.items.reserve(problem.items.size());
  for (const std::vector<Level>& levels : problem.items) {
    const double least = least_priced(levels, relaxation.price);
    std::vector<Level>& few = kept.items.emplace_back();
    for (const Level& level : levels) {
      if (priced(level, relaxation.price) - least <= allowed) few.push_back(level);
    }
    const Level smallest = few.front();
    const Level cheapest = few.back();
    for (Level& level : few) {
      level.cost -= cheapest.cost;
      level.weight -= smallest.weight;
    }
    kept.least_cost += cheapest.cost;
    kept.capacity -= smallest.weight;
  }
  return kept;
}

}  // namespace knapsaq
