// The element loop of two-sided rounding. An element waits for the one before it in its row and for the one
// above it: a chain of some fifty cycles each. Eight rows are therefore under way together, each one register
// of columns behind the row above it, so that none waits for another.

#include <cstdint>

#include "knapsaq/base/simd/simd.h"
#include "knapsaq/quant/nearest_level.h"
#include "knapsaq/quant/two_sided_kernels.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

using namespace simd::KNAPSAQ_SET;

constexpr int kTogether = kTwoSidedTogether;
constexpr std::int64_t kCols = kTwoSidedCols;

/// Adds to `above` of rows [row, row + kTogether) what the tile's rows before them do.
void add_rows_before(const TwoSidedTile& t, std::int64_t row) {
  for (std::int64_t col = 0; col < t.cols; col += kLanes) {
    Floats sums[kTogether];
    for (int q = 0; q < kTogether; ++q) sums[q] = load(t.above + (row + q) * kCols + col);
    for (std::int64_t i = 0; i < row; ++i) {
      const Floats effect = load(t.made_up + i * kCols + col);
      const float* feedback = t.row_feedback + i * kTwoSidedRows + row;
      for (int q = 0; q < kTogether; ++q) sums[q] = fma(splat(feedback[q]), effect, sums[q]);
    }
    for (int q = 0; q < kTogether; ++q) store(t.above + (row + q) * kCols + col, sums[q]);
  }
}

/// One register of columns of each of kTogether rows: those at `at`, from column `cols` of the tile.
template <bool kLevels>
inline __attribute__((always_inline)) void quantize_chunks(const TwoSidedTile& t, const std::int64_t* at,
                                                           const std::int64_t* cols) {
  Floats made_up[kTogether];
  Floats error[kTogether];
  float lanes[kTogether * kLanes];
  for (int p = 0; p < kTogether; ++p) made_up[p] = load(t.made_up + at[p]);
  // In turn i, lane i has its last value: later turns add nothing to it, for the feedback is 0 there.
  for (int i = 0; i < kLanes; ++i) {
#pragma GCC unroll 8
    for (int p = 0; p < kTogether; ++p) {
      const Floats weight = load(t.weights + at[p]);
      const Floats bias = load(t.biases + at[p]);
      const Floats x = (weight + (made_up[p] + load(t.above + at[p])) - bias) * load(t.inverses + at[p]);
      Floats code;
      if constexpr (kLevels)
        code = nearest_level(x, t.levels, t.thresholds, t.level_count);
      else
        code = nearest(vmin(vmax(x, splat(0)), splat(t.largest)));
      error[p] = weight - fma(load(t.scales + at[p]), code, bias);
      store(lanes + p * kLanes, error[p]);
      if (i == kLanes - 1) store_codes(t.codes + at[p], code, kLanes);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kTogether; ++p) {
      const Floats feedback = load(t.column_feedback + (cols[p] + i) * kCols + cols[p]);
      made_up[p] = fma(splat(lanes[p * kLanes + i]), feedback, made_up[p]);
    }
  }
  for (int p = 0; p < kTogether; ++p) {
    store(t.errors + at[p], error[p]);
    store(t.made_up + at[p], made_up[p] + error[p]);
  }
}

/// Adds to the columns behind what the errors in the register of columns from `col` do in row `row`.
inline void add_to_row(const TwoSidedTile& t, std::int64_t row, std::int64_t col) {
  Floats errors[kLanes];
  for (int i = 0; i < kLanes; ++i) errors[i] = splat(t.errors[row * kCols + col + i]);
  const float* feedback = t.column_feedback + col * kCols;
  for (std::int64_t next = col + kLanes; next < t.cols; next += kLanes) {
    Floats sum = load(t.made_up + row * kCols + next);
    for (int i = 0; i < kLanes; ++i) sum = fma(errors[i], load(feedback + i * kCols + next), sum);
    store(t.made_up + row * kCols + next, sum);
  }
}

/// Adds to rows (row, end) what row `row` does in the register of columns from `col`.
inline void add_to_rows(const TwoSidedTile& t, std::int64_t row, std::int64_t end, std::int64_t col) {
  const Floats effect = load(t.made_up + row * kCols + col);
  const float* feedback = t.row_feedback + row * kTwoSidedRows;
  for (std::int64_t i = row + 1; i < end; ++i) {
    float* above = t.above + i * kCols + col;
    store(above, fma(splat(feedback[i]), effect, load(above)));
  }
}

template <bool kLevels>
void quantize_elements(const TwoSidedTile& t) {
  const std::int64_t chunks = (t.cols + kLanes - 1) / kLanes;
  for (std::int64_t row = 0; row < t.rows; row += kTogether) {
    add_rows_before(t, row);
    for (std::int64_t step = 0; step < chunks + kTogether - 1; ++step) {
      std::int64_t at[kTogether];
      std::int64_t cols[kTogether];
      for (int p = 0; p < kTogether; ++p) {
        const std::int64_t chunk = step - p;
        const bool there = chunk >= 0 && chunk < chunks;
        cols[p] = there ? chunk * kLanes : 0;
        at[p] = there ? (row + p) * kCols + cols[p] : kTwoSidedRows * kCols;
      }
      quantize_chunks<kLevels>(t, at, cols);
      for (int p = 0; p < kTogether; ++p) {
        if (at[p] == kTwoSidedRows * kCols) continue;
        add_to_row(t, row + p, cols[p]);
        add_to_rows(t, row + p, row + kTogether, cols[p]);
      }
    }
  }
}

void quantize_tile(const TwoSidedTile& t) {
  if (t.level_count > 0)
    quantize_elements<true>(t);
  else
    quantize_elements<false>(t);
}

}  // namespace

extern const TwoSidedKernels kTwoSidedKernels;
constexpr TwoSidedKernels kTwoSidedKernels = {quantize_tile};

}  // namespace knapsaq::KNAPSAQ_SET
