#include "knapsaq/quant/two_sided.h"

#include <algorithm>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"
#include "knapsaq/quant/point_rounding.h"
#include "knapsaq/quant/two_sided_kernels.h"

namespace knapsaq {

namespace {

constexpr std::int64_t kRows = kTwoSidedRows;
constexpr std::int64_t kCols = kTwoSidedCols;
constexpr std::size_t kTileSize = (kRows + 1) * kCols;

std::int64_t tiles_of(std::int64_t size, std::int64_t tile) { return (size + tile - 1) / tile; }

/// The arrays of a tile under way.
struct Workspace {
  std::vector<float> weights = std::vector<float>(kTileSize);
  std::vector<float> scales = std::vector<float>(kTileSize);
  std::vector<float> inverses = std::vector<float>(kTileSize);
  std::vector<float> biases = std::vector<float>(kTileSize);
  std::vector<float> above = std::vector<float>(kTileSize);
  std::vector<float> made_up = std::vector<float>(kTileSize);
  std::vector<float> errors = std::vector<float>(kTileSize);
  std::vector<float> column_feedback = std::vector<float>(kCols * kCols);
  std::vector<float> row_feedback = std::vector<float>(kRows * kRows);
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(kTileSize);
};

/// The part of a factor's feedback among [first, first + count), zero elsewhere: [size, size].
void copy_feedback(const float* feedback, std::int64_t width, std::int64_t first, std::int64_t count,
                   std::int64_t size, std::vector<float>& out) {
  std::ranges::fill(out, 0.0f);
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = feedback + (first + i) * width + first;
    std::copy(row + i + 1, row + count, out.data() + i * size + i + 1);
  }
}

class TwoSided {
 public:
  TwoSided(const MatrixView& weights, const HessianFactor& inputs, const OutputFactor* outputs,
           RoundedMatrix& matrix)
      : weights_(weights),
        inputs_(inputs),
        outputs_(outputs),
        matrix_(matrix),
        levels_(matrix.levels()),
        made_up_(static_cast<std::size_t>(weights.rows * weights.cols)),
        codes_(made_up_.size()) {}

  void quantize() {
    read_metadata();
    const std::int64_t down = tiles_of(weights_.rows, kRows);
    const std::int64_t across = tiles_of(weights_.cols, kCols);
    std::vector<Workspace> workspaces(static_cast<std::size_t>(std::min(down, across)));
    for (std::int64_t diagonal = 0; diagonal < down + across - 1; ++diagonal) {
      check_cancelled();
      const std::int64_t top = std::max<std::int64_t>(diagonal - across + 1, 0);
      const std::int64_t end = std::min(diagonal + 1, down);
      parallel_for(static_cast<std::size_t>(end - top), [&](std::size_t i) {
        const std::int64_t tile_row = top + static_cast<std::int64_t>(i);
        quantize_tile(tile_row * kRows, (diagonal - tile_row) * kCols, workspaces[i]);
      });
    }
    write_codes();
  }

 private:
  /// The row that is quantized i-th.
  std::int64_t row_at(std::int64_t i) const { return outputs_ == nullptr ? i : outputs_->order[i]; }

  /// [rows, groups] each, rows in the factor's order.
  void read_metadata() {
    const std::int64_t groups = matrix_.groups();
    for (auto* values : {&scales_, &inverses_, &biases_})
      values->resize(static_cast<std::size_t>(weights_.rows * groups));
    for (std::int64_t i = 0; i < weights_.rows; ++i) {
      matrix_.read_groups(row_at(i), std::span(scales_).subspan(i * groups, groups),
                          std::span(biases_).subspan(i * groups, groups));
    }
    std::ranges::transform(scales_, inverses_.begin(), inverse_of);
  }

  void quantize_tile(std::int64_t first_row, std::int64_t first_col, Workspace& w) {
    const std::int64_t rows = std::min(kRows, weights_.rows - first_row);
    const std::int64_t cols = std::min(kCols, weights_.cols - first_col);
    fill(first_row, rows, first_col, cols, w);
    const std::int64_t height = weights_.rows;
    const std::int64_t width = weights_.cols;
    float* const made_up = made_up_.data() + first_row * width + first_col;
    if (first_row > 0 && outputs_ != nullptr) {
      blas::add_transposed_product(rows, cols, first_row, 1.0f, outputs_->feedback.get() + first_row, height,
                                   made_up_.data() + first_col, width, w.above.data(), kCols);
    }
    TwoSidedTile tile;
    tile.rows = tiles_of(rows, kTwoSidedTogether) * kTwoSidedTogether;
    tile.cols = cols;
    tile.weights = w.weights.data();
    tile.scales = w.scales.data();
    tile.inverses = w.inverses.data();
    tile.biases = w.biases.data();
    tile.largest = matrix_.largest();
    tile.levels = levels_.levels.data();
    tile.thresholds = levels_.thresholds.data();
    tile.level_count = std::ssize(levels_.levels);
    tile.column_feedback = w.column_feedback.data();
    tile.row_feedback = w.row_feedback.data();
    tile.above = w.above.data();
    tile.made_up = w.made_up.data();
    tile.errors = w.errors.data();
    tile.codes = w.codes.data();
    if (matrix_.has_points())
      round_points(tile, inputs_.diagonal.data() + first_col, matrix_);
    else
      two_sided_kernels().quantize(tile);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(w.made_up.data() + i * kCols, cols, made_up + i * width);
      std::uint8_t* const codes = codes_.data() + row_at(first_row + i) * width;
      for (std::int64_t j = 0; j < cols; ++j) codes[inputs_.order[first_col + j]] = w.codes[i * kCols + j];
    }
    if (const std::int64_t next = first_col + cols; next < width) {
      blas::add_product(rows, width - next, cols, 1.0f, w.errors.data(), kCols,
                        inputs_.feedback.get() + first_col * width + next, width, made_up + cols, width);
    }
  }

  void fill(std::int64_t first_row, std::int64_t rows, std::int64_t first_col, std::int64_t cols,
            Workspace& w) {
    if (rows < kRows || cols < kCols) {
      for (auto* values : {&w.weights, &w.scales, &w.inverses, &w.biases, &w.made_up})
        std::ranges::fill(*values, 0.0f);
    }
    std::ranges::fill(w.above, 0.0f);
    const std::int64_t groups = matrix_.groups();
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* const row = weights_.row(row_at(first_row + i)).data();
      const std::int64_t at = (first_row + i) * groups;
      for (std::int64_t j = 0; j < cols; ++j) {
        const std::int32_t col = inputs_.order[first_col + j];
        const std::int64_t g = at + col / matrix_.group();
        w.weights[i * kCols + j] = row[col];
        w.scales[i * kCols + j] = scales_[g];
        w.inverses[i * kCols + j] = inverses_[g];
        w.biases[i * kCols + j] = biases_[g];
      }
      std::copy_n(made_up_.data() + (first_row + i) * weights_.cols + first_col, cols,
                  w.made_up.data() + i * kCols);
    }
    copy_feedback(inputs_.feedback.get(), weights_.cols, first_col, cols, kCols, w.column_feedback);
    if (outputs_ != nullptr)
      copy_feedback(outputs_->feedback.get(), weights_.rows, first_row, rows, kRows, w.row_feedback);
  }

  void write_codes() {
    parallel_for(static_cast<std::size_t>(tiles_of(weights_.rows, kRows)), [&](std::size_t piece) {
      const std::int64_t first = static_cast<std::int64_t>(piece) * kRows;
      for (std::int64_t r = first; r < std::min(first + kRows, weights_.rows); ++r) {
        matrix_.write_codes(r, std::span(codes_).subspan(r * weights_.cols, weights_.cols));
      }
    });
  }

  const MatrixView& weights_;
  const HessianFactor& inputs_;
  const OutputFactor* outputs_;
  RoundedMatrix& matrix_;
  LevelTable levels_;
  std::vector<float> scales_;
  std::vector<float> inverses_;
  std::vector<float> biases_;
  /// [rows, cols] in the factors' orders: TwoSidedTile::made_up, before a tile its input, then its output.
  std::vector<float> made_up_;
  std::vector<std::uint8_t> codes_;  ///< [rows, cols]
};

}  // namespace

void choose_two_sided_codes(const MatrixView& weights, const HessianFactor& inputs,
                            const OutputFactor* outputs, RoundedMatrix& matrix) {
  TwoSided(weights, inputs, outputs, matrix).quantize();
}

}  // namespace knapsaq
