#include "knapsaq/quant/ggml/grid_halves.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <span>
#include <vector>

#include "knapsaq/compute/ggml_grid.h"

namespace knapsaq {

namespace {

GridHalves halves_of(const GgmlGrid& grid) {
  const auto size = static_cast<std::size_t>(grid.size());
  const auto levels = grid.levels();
  const auto number = [&](std::span<const std::int8_t> half) {
    std::size_t digits = 0;
    for (const std::int8_t code : half) {
      const auto rank = std::distance(levels.begin(), std::ranges::find(levels, code));
      digits = digits * levels.size() + static_cast<std::size_t>(rank);
    }
    return static_cast<std::uint16_t>(digits);
  };
  std::map<std::uint16_t, std::vector<std::uint16_t>> seconds;
  for (std::size_t i = 0; i < grid.count(); ++i) {
    const std::span<const std::int8_t> point(grid.point(i), size);
    seconds[number(point.first(size / 2))].push_back(number(point.last(size / 2)));
  }
  GridHalves out;
  std::size_t at = 0;
  for (auto& [half, others] : seconds) {
    std::ranges::sort(others);
    while (others.size() % 4 != 0) others.push_back(others.back());
    GridHalves::First& first = out.first[out.firsts++];
    first.half = half;
    first.begin = static_cast<std::uint16_t>(at);
    for (const std::uint16_t other : others) out.second[at++] = static_cast<std::uint16_t>(16 * other);
    first.end = static_cast<std::uint16_t>(at);
  }
  std::stable_sort(out.first, out.first + out.firsts,
                   [](const auto& a, const auto& b) { return a.end - a.begin > b.end - b.begin; });
  return out;
}

}  // namespace

const GridHalves& grid_halves(GgmlType type) {
  static const std::map<GgmlType, GridHalves> all = [] {
    std::map<GgmlType, GridHalves> made;
    for (const GgmlTypeInfo& one : ggml_types()) {
      if (const GgmlGrid* grid = GgmlGrid::of(one.type)) made.emplace(one.type, halves_of(*grid));
    }
    return made;
  }();
  return all.at(type);
}

}  // namespace knapsaq
