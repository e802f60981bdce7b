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

std::vector<std::size_t> select_by_hypervolume(std::span<const Outcome> candidates,
                                               std::span<const Outcome> known, const Outcome& ideal,
                                               const Outcome& reference, std::size_t count) {
  // In logarithms the area reaches down to the least divergence there is.
  double least = reference.divergence;
  for (const std::span<const Outcome> outcomes : {known, candidates})
    for (const Outcome& one : outcomes)
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
  std::vector<bool> taken(candidates.size(), false);
  for (std::size_t misses = 0; picked.size() < count && misses < stairs.size();) {
    const std::size_t scale = (picked.size() + misses) % stairs.size();
    std::size_t best = candidates.size();
    double most = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (taken[i]) continue;
      const double gain = stairs[scale].gain(scale == 0 ? candidates[i] : logarithmic(candidates[i]));
      if (gain > most) {
        most = gain;
        best = i;
      }
    }
    if (best == candidates.size()) {
      ++misses;
      continue;
    }
    misses = 0;
    taken[best] = true;
    picked.push_back(best);
    stairs[0].add(candidates[best]);
    stairs[1].add(logarithmic(candidates[best]));
  }
  return picked;
}

}  // namespace knapsaq
