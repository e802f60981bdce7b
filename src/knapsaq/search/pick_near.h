#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "knapsaq/search/front.h"

namespace knapsaq {

/// AMQ's choice at a target size (its tolerance: 0.005 bits): the least divergence strictly within
/// `tolerance` of the target, and of equal ones the smallest. (AMQ minimises the achievement scalarising
/// function max(divergence / 1e-10, bits / target), which is equivalent.) If there is none, the least
/// divergence at or below the target; nullopt if all are larger. Outcomes that are not finite are not chosen.
std::optional<std::size_t> pick_near(std::span<const Outcome> outcomes, double target,
                                     double tolerance = 0.005);

}  // namespace knapsaq
