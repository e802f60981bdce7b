#include "knapsaq/pipeline/effort.h"

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {

Effort parse_effort(std::string_view name) {
  for (const Effort effort : {Effort::quick, Effort::normal, Effort::best})
    if (name == name_of(effort)) return effort;
  throw UsageError(fmt::format("'{}' is not an effort: choose quick, normal or best", name));
}

std::string_view name_of(Effort effort) {
  switch (effort) {
    case Effort::quick:
      return "quick";
    case Effort::normal:
      return "normal";
    case Effort::best:
      break;
  }
  return "best";
}

}  // namespace knapsaq
