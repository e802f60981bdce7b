#include "knapsaq/search/best_point.h"

#include <cmath>
#include <stdexcept>

#include <fmt/format.h>

#include "knapsaq/search/file_knapsack.h"

namespace knapsaq {
namespace {

FileKnapsack file_knapsack(const SearchSpace& space, const LevelCosts& costs) {
  if (!space.files) throw std::logic_error("search space: made without the sizes of a model's files");
  std::vector<FileItem> items;
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    FileItem& item = items.emplace_back();
    item.modules = space.variables[v].linears;
    for (const SpaceLevel& level : space.variables[v].levels) item.forms.push_back(level.choice);
    item.costs = costs[v];
  }
  return FileKnapsack(*space.files, std::move(items));
}

LevelCosts no_costs(const SearchSpace& space) {
  LevelCosts costs;
  for (const Variable& variable : space.variables) costs.emplace_back(variable.levels.size(), 0.0);
  return costs;
}

}  // namespace

FrontPoint best_point(const SearchSpace& space, const LevelCosts& costs, const Budget& budget) {
  if (budget.of == Budget::Of::files) return file_knapsack(space, costs).best_within(budget.bytes);
  require_feasible(space, budget);
  std::vector<std::vector<Choice>> items;
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    std::vector<Choice>& item = items.emplace_back();
    for (std::size_t l = 0; l < costs[v].size(); ++l)
      item.push_back({costs[v][l], static_cast<double>(space.variables[v].levels[l].bytes)});
  }
  return Knapsack(items).best_within(budget.bytes);
}

Point smallest_point(const SearchSpace& space, Budget::Of of) {
  return of == Budget::Of::linears ? space.smallest()
                                   : file_knapsack(space, no_costs(space)).smallest().levels;
}

void require_feasible(const SearchSpace& space, const Budget& budget) {
  if (budget.of == Budget::Of::files) {
    best_point(space, no_costs(space), budget);
    return;
  }
  const std::uint64_t least = space.linear_bytes(space.smallest());
  if (budget.bytes < least) throw linears_do_not_fit(budget.bytes, least, space.parameters);
}

InfeasibleError linears_do_not_fit(std::uint64_t budget, std::uint64_t least, std::int64_t parameters) {
  const auto bits = [&](std::uint64_t bytes) {
    return 8 * static_cast<double>(bytes) / static_cast<double>(parameters);
  };
  // Rounded up, so that asking for the shown number of bits is feasible.
  const double least_bits = std::ceil(bits(least) * 1e4) / 1e4;
  return InfeasibleError(
      fmt::format(
          "a budget of {} bytes ({:.4f} bits per weight) for the linears is too small: their smallest "
          "allocation takes {} bytes ({:.4f} bits per weight)",
          budget, bits(budget), least, least_bits),
      static_cast<double>(least));
}

}  // namespace knapsaq
