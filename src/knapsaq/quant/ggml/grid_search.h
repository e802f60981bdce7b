#pragma once

#include <cstdint>

#include "knapsaq/quant/ggml/kernels.h"

// The part of a GgmlKernels table that is for types with a grid, compiled once for every instruction set.
// Included by kernel sources alone (simd.h).

namespace knapsaq::KNAPSAQ_SET {

/// GgmlKernels::search for types with a grid.
void search_grid(GgmlType type, const float* x, const float* w, std::int64_t count, FoundBlock* out);
/// GgmlKernels::nearest_points.
void nearest_points(GgmlType type, const float* x, const float* w, const float* a, std::int8_t* codes);

}  // namespace knapsaq::KNAPSAQ_SET
