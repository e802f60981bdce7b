#pragma once

#include <cstdint>
#include <string_view>

namespace knapsaq {

/// How much is done for an allocation after it was found. No effort changes its schemes or its bytes.
enum class Effort : std::uint8_t {
  quick,   ///< the bank's codes are written as they were searched on
  normal,  ///< codes that correct the errors before them, then 100 steps of tuning
  best     ///< corrected codes of the three best allocations, then 300 steps
};

/// "quick", "normal" or "best"; throws UsageError for anything else.
Effort parse_effort(std::string_view name);
std::string_view name_of(Effort effort);

}  // namespace knapsaq
