#include "knapsaq/family/published.h"

namespace knapsaq {

PublishedModule renamed(std::string published, std::string name) {
  return {.name = std::move(published), .parts = {{.name = std::move(name), .rows = {}}}};
}

PublishedModule stacked_rows(std::string published,
                             std::span<const std::pair<std::string, std::int64_t>> modules) {
  PublishedModule result{.name = std::move(published), .parts = {}};
  std::int64_t first = 0;
  for (const auto& [name, rows] : modules) {
    result.parts.push_back({.name = name, .rows = {.first = first, .count = rows}});
    first += rows;
  }
  return result;
}

}  // namespace knapsaq
