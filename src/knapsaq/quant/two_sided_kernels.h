#pragma once

#include <cstdint>

namespace knapsaq {

inline constexpr std::int64_t kTwoSidedRows = 64;  ///< of a tile
inline constexpr std::int64_t kTwoSidedCols = 128;
/// Rows of a tile that are under way together, each a few columns behind the row before it.
inline constexpr std::int64_t kTwoSidedTogether = 8;

/// A tile of a matrix whose codes are chosen by choose_two_sided_codes(). Arrays are [kTwoSidedRows + 1,
/// kTwoSidedCols], row-major; their last row is all zeros and stays so. Columns and rows behind the last ones
/// have weight, scale, inverse and bias 0, which gives no error.
struct TwoSidedTile {
  std::int64_t rows = 0;  ///< a multiple of kTwoSidedTogether
  std::int64_t cols = 0;
  const float* weights = nullptr;
  const float* scales = nullptr;
  const float* inverses = nullptr;  ///< 1 / scale; 0 for a scale of 0
  const float* biases = nullptr;
  float largest = 0;  ///< the largest code
  /// What codes there are, ascending, and the numbers between them: LevelTable. None: every whole number.
  const float* levels = nullptr;
  const float* thresholds = nullptr;
  std::int64_t level_count = 0;
  /// [kTwoSidedCols, kTwoSidedCols] HessianFactor::feedback of the tile's columns; 0 on and below the
  /// diagonal and behind the last column.
  const float* column_feedback = nullptr;
  /// [kTwoSidedRows, kTwoSidedRows] OutputFactor::feedback of the tile's rows; 0 likewise.
  const float* row_feedback = nullptr;
  float* above = nullptr;  ///< in: what the errors of rows above the tile add to the weights; changed
  /// In: what the errors of columns before the tile add to the weights. Out: the same of all columns up to
  /// the element's own, and the element's own error: E U with U the columns' feedback and ones.
  float* made_up = nullptr;
  float* errors = nullptr;        ///< out: weight minus quantized weight
  std::uint8_t* codes = nullptr;  ///< out
};

struct TwoSidedKernels {
  /// Quantizes a tile element by element, each with what the errors before it add.
  void (*quantize)(const TwoSidedTile& tile);
};

/// The fastest that this processor can run and KNAPSAQ_ISA allows.
const TwoSidedKernels& two_sided_kernels();

}  // namespace knapsaq
