#pragma once

#include <string_view>

namespace knapsaq {

/// Whether `text` is what a pattern with `*` (any characters) and `?` (one) describes, from its first
/// character to its last. Takes at most |pattern| |text| steps.
bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace knapsaq
