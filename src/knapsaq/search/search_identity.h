#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "knapsaq/search/space.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// What besides strategy and seed decides about the questions of a search, as SearchRecord::options holds it:
/// two searches with the same text go the same way, whoever began them. `evaluations` 0 and an empty `goal`
/// are what the strategy makes of them.
std::string search_identity(const OptionValues& options, std::int64_t evaluations,
                            const std::optional<Budget>& budget, std::string_view goal);

}  // namespace knapsaq
