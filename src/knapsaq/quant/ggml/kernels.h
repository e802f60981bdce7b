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
  /// The points of a type with a grid that are nearest to eight columns of sixteen rows, which are its eight
  /// consecutive codes (two points of four or one of eight): q that make sum_j w_j (x_j - a q_j)^2 least in
  /// every row among all that the type can store there, signs included; a tie or what is lost to rounding
  /// apart. `x`, `w` and `codes` are [8][16], `a` [16] with w > 0; all products must be finite in fp32. Codes
  /// of IQ1 types may have either shift.
  void (*nearest_points)(GgmlType type, const float* x, const float* w, const float* a, std::int8_t* codes);
};

/// The fastest table that this processor can run and KNAPSAQ_ISA allows.
const GgmlKernels& ggml_kernels();
/// Every table that this processor can run and KNAPSAQ_ISA allows, the fastest first.
std::span<const GgmlKernels* const> all_ggml_kernels();

}  // namespace knapsaq
