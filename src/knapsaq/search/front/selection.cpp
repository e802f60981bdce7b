#include "knapsaq/search/front/selection.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace knapsaq {
namespace {

/// The points of a front, ascending by size and so descending by value, within a rectangle.
class Staircase {
 public:
  explicit Staircase(const Outcome& reference) : reference_(reference) {}

  void add(const Outcome& outcome) {
    if (gain(outcome) <= 0) return;
    const auto first = std::ranges::lower_bound(steps_, outcome.size, {}, &Outcome::size);
    auto last = first;
    while (last != steps_.end() && last->divergence >= outcome.divergence) ++last;
    steps_.insert(steps_.erase(first, last), outcome);
  }

  /// Area that `outcome` would add.
  double gain(const Outcome& outcome) const {
    if (!(outcome.size < reference_.size) || !(outcome.divergence < reference_.divergence)) return 0;
    auto next = std::ranges::upper_bound(steps_, outcome.size, {}, &Outcome::size);
    double height = next == steps_.begin() ? reference_.divergence : std::prev(next)->divergence;
    double from = outcome.size;
    double area = 0;
    while (height > outcome.divergence) {
      const double to = next == steps_.end() ? reference_.size : next->size;
      area += (to - from) * (height - outcome.divergence);
      if (next == steps_.end()) break;
      from = to;
      height = std::min(height, next->divergence);
      ++next;
    }
    return area;
  }

 private:
  Outcome reference_;
  std::vector<Outcome> steps_;
};

}  // namespace

PrefixCost::PrefixCost(const SearchSpace& space, std::span<const Proposal> candidates)
    : candidates_(candidates), shares_(candidates.size(), 1.0) {
  // Head and attention are not in the variables' weights. An estimate is enough: it only ranks candidates.
  constexpr double kFixed = 0.15;
  double sum = 0;
  behind_.assign(space.variables.size() + 1, kFixed);
  for (std::size_t i = space.variables.size(); i-- > 0;) {
    sum += static_cast<double>(space.variables[i].parameters);
    behind_[i] = kFixed + (1 - kFixed) * sum / static_cast<double>(space.parameters);
  }
}

void PrefixCost::pick(std::size_t candidate) {
  const Point& picked = candidates_[candidate].point;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    const Point& point = candidates_[i].point;
    const auto common = static_cast<std::size_t>(std::ranges::mismatch(point, picked).in1 - point.begin());
    shares_[i] = std::min(shares_[i], behind_[common]);
  }
}

std::vector<std::size_t> select_by_hypervolume(std::span<const Outcome> outcomes,
                                               std::span<const Outcome> known, const Outcome& ideal,
                                               const Outcome& reference, double passes, std::size_t most,
                                               PrefixCost& cost) {
  // In logarithms the area reaches down to the least divergence there is.
  double least = reference.divergence;
  for (const std::span<const Outcome> some : {known, outcomes})
    for (const Outcome& one : some)
      if (one.divergence > ideal.divergence) least = std::min(least, one.divergence);
  const auto logarithmic = [&](const Outcome& one) {
    return Outcome{one.size, std::log(std::max(one.divergence, least))};
  };
  std::array<Staircase, 2> stairs = {Staircase(reference), Staircase(logarithmic(reference))};
  for (const Outcome& one : known) {
    stairs[0].add(one);
    stairs[1].add(logarithmic(one));
  }
  std::vector<std::size_t> picked;
  std::vector<bool> taken(outcomes.size(), false);
  double spent = 0;
  for (std::size_t misses = 0; picked.size() < most && spent < passes && misses < stairs.size();) {
    const std::size_t scale = (picked.size() + misses) % stairs.size();
    std::size_t best = outcomes.size();
    double best_rate = 0;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (taken[i]) continue;
      const double rate =
          stairs[scale].gain(scale == 0 ? outcomes[i] : logarithmic(outcomes[i])) / cost.of(i);
      if (rate > best_rate) {
        best_rate = rate;
        best = i;
      }
    }
    if (best == outcomes.size()) {
      ++misses;
      continue;
    }
    misses = 0;
    taken[best] = true;
    picked.push_back(best);
    spent += cost.of(best);
    cost.pick(best);
    stairs[0].add(outcomes[best]);
    stairs[1].add(logarithmic(outcomes[best]));
  }
  return picked;
}

}  // namespace knapsaq
