#include "knapsaq/search/search_identity.h"

#include <fmt/core.h>

namespace knapsaq {

std::string search_identity(const OptionValues& options, std::int64_t evaluations,
                            const std::optional<Budget>& budget, std::string_view goal) {
  std::string text = options.to_string();
  if (evaluations > 0) text += fmt::format(" evaluations={}", evaluations);
  if (budget) text += fmt::format(" {}", to_string(*budget));
  if (!goal.empty()) text += fmt::format(" goal={}", goal);
  return text;
}

}  // namespace knapsaq
