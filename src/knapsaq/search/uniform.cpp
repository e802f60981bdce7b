#include "knapsaq/search/uniform.h"

#include <algorithm>
#include <cmath>

#include "knapsaq/search/one_batch.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

double bytes_per_weight(const Variable& variable, const SpaceLevel& level) {
  return static_cast<double>(level.bytes) / static_cast<double>(variable.parameters);
}

std::size_t nearest(const Variable& variable, double target) {
  std::size_t best = 0;
  double least = INFINITY;
  for (std::size_t level = 0; level < variable.levels.size(); ++level) {
    const double distance = std::abs(bytes_per_weight(variable, variable.levels[level]) - target);
    if (distance < least) {
      least = distance;
      best = level;
    }
  }
  return best;
}

}  // namespace

std::vector<Point> uniform_points(const SearchSpace& space) {
  std::vector<Point> points;
  for (std::size_t choice = 0; choice < space.menu.size(); ++choice) {
    double bytes = 0;
    double weights = 0;
    std::vector<std::optional<std::size_t>> levels;
    for (const Variable& variable : space.variables) {
      levels.push_back(space.level_with(variable, choice));
      if (!levels.back()) continue;
      bytes += static_cast<double>(variable.levels[*levels.back()].bytes);
      weights += static_cast<double>(variable.parameters);
    }
    if (weights == 0) continue;
    Point point;
    for (std::size_t v = 0; v < space.variables.size(); ++v)
      point.push_back(
          static_cast<std::uint8_t>(levels[v] ? *levels[v] : nearest(space.variables[v], bytes / weights)));
    if (std::ranges::find(points, point) == points.end()) points.push_back(std::move(point));
  }
  return points;
}

StrategyInfo uniform_strategy() {
  return {"uniform",
          "every scheme of the menu for all variables alike",
          {},
          [](const StrategySetup& setup, const OptionValues&) -> std::unique_ptr<Strategy> {
            return std::make_unique<OneBatch>(uniform_points(*setup.space), "uniform", setup.evaluations);
          }};
}

}  // namespace knapsaq
