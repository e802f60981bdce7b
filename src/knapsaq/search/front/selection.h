#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "knapsaq/search/front.h"

namespace knapsaq {

/// Picks up to `count` of the candidates, one after another, each the one that adds most hypervolume to the
/// front of `known` and those picked before, as if candidates kept what is predicted of them. Every other
/// pick counts the hypervolume with logarithmic divergences: in plain ones, the sizes at which people serve
/// models (3 bits and more) would hardly count beside 2 bits. Candidates that add nothing are not picked.
std::vector<std::size_t> select_by_hypervolume(std::span<const Outcome> candidates,
                                               std::span<const Outcome> known, const Outcome& ideal,
                                               const Outcome& reference, std::size_t count);

}  // namespace knapsaq
