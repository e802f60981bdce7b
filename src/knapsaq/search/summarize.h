#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/compute/backend.h"
#include "knapsaq/search/measurement.h"

namespace knapsaq {

/// The measurement of `windows` windows of scored tokens: means in double, in their order. per_token has the
/// values of `divergence`. jsd is NaN if the tokens lack it. If kl, loss, perplexity or the requested
/// divergence is not finite, kl, jsd and loss are all NaN (Measurement::finite()).
Measurement summarize(std::span<const RowComparison> tokens, std::int64_t windows, Divergence divergence);

}  // namespace knapsaq
