#pragma once

#include <cstdint>

namespace knapsaq {

/// One block of columns of one panel of rows, transposed: rows are contiguous, so that a vector holds one
/// column's weights of several rows.
struct GptqBlock {
  std::int64_t rows = 0;        ///< a multiple of kGptqRows
  std::int64_t row_stride = 0;  ///< from column to column of made_up and errors
  std::int64_t cols = 0;        ///< at most kGptqCols
  /// [cols] of each column: [rows] weights, and scale, 1 / scale (0 for a scale of 0) and bias of its group.
  const float* const* weights = nullptr;
  const float* const* scales = nullptr;
  const float* const* inverses = nullptr;
  const float* const* biases = nullptr;
  float largest = 0;  ///< the largest code
  /// What codes there are, ascending, and the numbers between them: LevelTable. None: every whole number.
  const float* levels = nullptr;
  const float* thresholds = nullptr;
  std::int64_t level_count = 0;
  const float* made_up =
      nullptr;  ///< [cols, row_stride] what the errors of earlier blocks add to the weights
  const float* feedback = nullptr;       ///< HessianFactor::feedback at the block's diagonal
  std::int64_t stride = 0;               ///< of feedback
  float* errors = nullptr;               ///< out: [cols, row_stride] weight minus quantized weight
  std::uint8_t* const* codes = nullptr;  ///< out: [cols] of each column: [rows]
};

inline constexpr std::int64_t kGptqRows = 16;
inline constexpr std::int64_t kGptqCols = 128;

struct GptqKernels {
  /// Quantizes the columns of a block one after the other, each with what the errors before it add.
  void (*quantize)(const GptqBlock& block);
};

/// The fastest that this processor can run and KNAPSAQ_ISA allows.
const GptqKernels& gptq_kernels();

}  // namespace knapsaq
