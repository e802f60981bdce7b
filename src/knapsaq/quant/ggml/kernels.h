#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/compute/ggml_matrix.h"

namespace knapsaq {

/// A block as the search leaves it: GgmlBlock with factors that are fp16 numbers, but not in 16 bits yet.
struct FoundBlock {
  float d = 0;
  float m = 0;  ///< `dmin` (w = ... - m * min) or `m` (w = d q + m)
  std::int8_t scales[16] = {};
  std::int8_t mins[16] = {};
  std::int8_t codes[256] = {};
};

/// The search for the best blocks, one table per instruction set. All tables return the same bits: they are
/// one algorithm on sixteen lanes (search_simd.cpp) with the same operations in the same order and no fused
/// multiply-adds, and no block's result depends on its neighbours.
struct GgmlKernels {
  const char* name;  ///< "avx512", "avx2", "portable"
  /// Looks for the numbers of `count` consecutive blocks of `type` that make sum w (x - q)^2 small; `x` and
  /// `w` are [count, info(type).block], finite, w > 0. Squares and their products with w must be finite in
  /// fp32, and |x| at most kLargestWeight.
  void (*search)(GgmlType type, const float* x, const float* w, std::int64_t count, FoundBlock* out);
};

/// The fastest table that this processor can run and KNAPSAQ_ISA allows.
const GgmlKernels& ggml_kernels();
/// Every table that this processor can run and KNAPSAQ_ISA allows, the fastest first.
std::span<const GgmlKernels* const> all_ggml_kernels();

}  // namespace knapsaq
