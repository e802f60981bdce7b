// SearchSpace::choices() for a test of what uses it, until the library has it: then this file goes.
#include "knapsaq/search/space.h"

namespace knapsaq {

std::vector<std::size_t> SearchSpace::choices(const Point& point) const {
  std::vector<std::size_t> chosen(linears.size());
  for (std::size_t v = 0; v < variables.size(); ++v)
    for (const std::size_t linear : variables[v].linears)
      chosen[linear] = variables[v].levels[point[v]].choice;
  return chosen;
}

}  // namespace knapsaq
