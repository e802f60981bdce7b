#pragma once

#include <string_view>

namespace knapsaq {

/// Whether a pattern with `*` (any characters) and `?` (one) matches all of `text`. Takes at most |pattern|
/// |text| steps.
bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace knapsaq
