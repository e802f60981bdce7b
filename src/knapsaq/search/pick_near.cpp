#include "knapsaq/search/pick_near.h"

#include <cmath>

namespace knapsaq {
namespace {

template <class Accept>
std::optional<std::size_t> least(std::span<const Outcome> outcomes, const Accept& accept) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& one = outcomes[i];
    if (!std::isfinite(one.size) || !std::isfinite(one.divergence) || !accept(one.size)) continue;
    if (!best || one.divergence < outcomes[*best].divergence ||
        (one.divergence == outcomes[*best].divergence && one.size < outcomes[*best].size))
      best = i;
  }
  return best;
}

}  // namespace

std::optional<std::size_t> pick_near(std::span<const Outcome> outcomes, double target, double tolerance) {
  const auto near = least(outcomes, [&](double size) { return std::abs(size - target) < tolerance; });
  return near ? near : least(outcomes, [&](double size) { return size <= target; });
}

}  // namespace knapsaq
