#pragma once

#include <cstdint>

#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// What the tensors of a linear [out, in] in this scheme look like. Throws UsageError if the scheme cannot
/// hold rows of `in` weights.
StoredShape stored_shape(const Scheme& scheme, std::int64_t out, std::int64_t in);

}  // namespace knapsaq
