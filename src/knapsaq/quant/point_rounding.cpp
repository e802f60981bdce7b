#include "knapsaq/quant/point_rounding.h"

#include <algorithm>
#include <cstdint>

namespace knapsaq {

namespace {

constexpr int kRun = kPointCols;
constexpr int kLanes = kPointRows;
constexpr std::int64_t kRows = kTwoSidedRows;
constexpr std::int64_t kCols = kTwoSidedCols;

/// A run of columns of a row of the tile; the row of zeros for a lane that has none.
struct Place {
  std::int64_t row = kRows;
  std::int64_t col = 0;
  std::int64_t at() const { return row * kCols + col; }
};

/// Fills a lane of target and weight: t and D of the header.
void aim(const TwoSidedTile& t, const float* diagonal, const Place& place, float* target, float* weight) {
  float errors[kRun];  // at which every term is zero
  for (int k = 0; k < kRun; ++k) {
    const std::int64_t at = place.at() + k;
    float sum = t.made_up[at] + t.above[at];
    for (int j = 0; j < k; ++j) sum += errors[j] * t.column_feedback[(place.col + j) * kCols + place.col + k];
    errors[k] = -sum;
    target[k * kLanes] = t.weights[at] + sum;
    weight[k * kLanes] = diagonal[place.col + k] * diagonal[place.col + k];
  }
}

/// Stores the codes and errors of a lane, and adds what they do to later columns and rows of the tile.
void take(const TwoSidedTile& t, const Place& place, const std::int8_t* codes, int lowest) {
  float* const made_up = t.made_up + place.row * kCols;
  for (int j = 0; j < kRun; ++j) {
    const std::int64_t at = place.at() + j;
    const std::int8_t code = codes[j * kLanes];
    const float error = t.weights[at] - t.scales[at] * static_cast<float>(code);
    t.codes[at] = static_cast<std::uint8_t>(code - lowest);
    t.errors[at] = error;
    const std::int64_t col = place.col + j;
    made_up[col] += error;
    const float* const feedback = t.column_feedback + col * kCols;
    for (std::int64_t k = col + 1; k < t.cols; ++k) made_up[k] += error * feedback[k];
  }
  const float* const feedback = t.row_feedback + place.row * kRows;
  for (std::int64_t row = place.row + 1; row < t.rows; ++row) {
    float* const above = t.above + row * kCols;
    for (std::int64_t k = place.col; k < place.col + kRun; ++k) above[k] += feedback[row] * made_up[k];
  }
}

}  // namespace

void round_points(const TwoSidedTile& t, const float* diagonal, const RoundedMatrix& matrix) {
  alignas(64) float target[kRun * kLanes];
  alignas(64) float weight[kRun * kLanes];
  alignas(64) float scale[kLanes];
  alignas(64) std::int8_t codes[kRun * kLanes];
  // Lane p takes rows p, p + 16, ..., run by run, and is one run behind the lane before it, so that what the
  // row above adds is known.
  const std::int64_t runs = t.cols / kRun;
  const std::int64_t period = std::max<std::int64_t>(runs, kLanes);
  const std::int64_t steps = (t.rows + kLanes - 1) / kLanes * period + kLanes - 1;
  for (std::int64_t step = 0; step < steps; ++step) {
    Place places[kLanes];
    for (int p = 0; p < kLanes; ++p) {
      const std::int64_t turn = step - p;
      const std::int64_t row = turn < 0 ? kRows : p + turn / period * kLanes;
      if (row < t.rows && turn % period < runs) places[p] = {row, turn % period * kRun};
      scale[p] = t.scales[places[p].at()];
      aim(t, diagonal, places[p], target + p, weight + p);
    }
    matrix.nearest_points(target, weight, scale, codes);
    for (int p = 0; p < kLanes; ++p)
      if (places[p].row != kRows) take(t, places[p], codes + p, matrix.lowest());
  }
}

}  // namespace knapsaq
