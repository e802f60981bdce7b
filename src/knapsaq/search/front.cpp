#include "knapsaq/search/front.h"

#include <algorithm>
#include <cmath>

namespace knapsaq {

std::vector<std::size_t> front(std::span<const Outcome> outcomes) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    if (std::isfinite(outcomes[i].size) && std::isfinite(outcomes[i].divergence)) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (outcomes[a].size != outcomes[b].size) return outcomes[a].size < outcomes[b].size;
    if (outcomes[a].divergence != outcomes[b].divergence)
      return outcomes[a].divergence < outcomes[b].divergence;
    return a < b;
  });
  // A later outcome is not smaller, so it must be better than all before.
  std::vector<std::size_t> result;
  for (const std::size_t i : order)
    if (result.empty() || outcomes[i].divergence < outcomes[result.back()].divergence) result.push_back(i);
  return result;
}

double hypervolume(std::span<const Outcome> outcomes, const Outcome& ideal, const Outcome& reference) {
  const double width = reference.size - ideal.size;
  const double height = reference.divergence - ideal.divergence;
  if (!(width > 0) || !(height > 0) || !std::isfinite(width) || !std::isfinite(height)) return 0;
  // Slabs between adjacent sizes: each is dominated from the divergence of its left neighbour upwards.
  double area = 0;
  const auto slab = [&](double left, double right, double divergence) {
    const double from = std::clamp(left, ideal.size, reference.size);
    const double to = std::clamp(right, ideal.size, reference.size);
    const double above =
        reference.divergence - std::clamp(divergence, ideal.divergence, reference.divergence);
    area += (to - from) / width * (above / height);
  };
  const std::vector<std::size_t> best = front(outcomes);
  for (std::size_t i = 0; i < best.size(); ++i)
    slab(outcomes[best[i]].size, i + 1 < best.size() ? outcomes[best[i + 1]].size : reference.size,
         outcomes[best[i]].divergence);
  return area;
}

}  // namespace knapsaq
