#include "knapsaq/pipeline/named_allocation.h"

namespace knapsaq {

std::vector<NamedScheme> named_allocation(const SearchSpace& space, const Point& point) {
  std::vector<NamedScheme> list;
  const std::vector<Scheme> schemes = space.allocation(point);
  for (std::size_t i = 0; i < schemes.size(); ++i) list.push_back({space.linears[i], to_string(schemes[i])});
  return list;
}

std::vector<SchemeCount> scheme_counts(const SearchSpace& space, const Point& point) {
  std::vector<std::size_t> counts(space.menu.size());
  for (const std::size_t choice : space.choices(point)) ++counts[choice];
  std::vector<SchemeCount> list;
  for (std::size_t c = 0; c < counts.size(); ++c)
    if (counts[c] > 0) list.push_back({to_string(space.menu[c]), counts[c]});
  return list;
}

}  // namespace knapsaq
