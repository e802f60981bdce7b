#include "knapsaq/quant/quantizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/group_kernels.h"

namespace knapsaq {

namespace {

// Rows are distributed in pieces of about this many weights: far more work than distributing costs.
constexpr std::int64_t kPieceWeights = 65536;

/// Calls fn(piece's number, first row, end row) in parallel; the pieces depend on the shape alone.
/// Returns the number of pieces.
std::size_t pieces_of(const MatrixView& weights) {
  const std::int64_t rows =
      std::max<std::int64_t>(kPieceWeights / std::max<std::int64_t>(weights.cols, 1), 1);
  return static_cast<std::size_t>((weights.rows + rows - 1) / rows);
}
template <class Function>
void for_pieces(const MatrixView& weights, Function&& fn) {
  const std::int64_t rows =
      std::max<std::int64_t>(kPieceWeights / std::max<std::int64_t>(weights.cols, 1), 1);
  parallel_for(pieces_of(weights), [&](std::size_t piece) {
    const std::int64_t first = static_cast<std::int64_t>(piece) * rows;
    fn(piece, first, std::min(first + rows, weights.rows));
  });
}

}  // namespace

void check_finite(const MatrixView& weights, std::string_view tensor) {
  const std::size_t count = weights.values.size();
  std::vector<std::size_t> first_bad(pieces_of(weights), count);
  for_pieces(weights, [&](std::size_t piece, std::int64_t first, std::int64_t end) {
    // x - x is NaN for NaN and the infinities and 0 otherwise, so a sum detects them without a branch per
    // weight.
    const std::span<const float> part =
        weights.values.subspan(first * weights.cols, (end - first) * weights.cols);
    float sum = 0;
    for (const float x : part) sum += x - x;
    if (sum == 0) return;
    const auto bad = std::ranges::find_if_not(part, [](float x) { return std::isfinite(x); });
    first_bad[piece] = static_cast<std::size_t>(first * weights.cols + (bad - part.begin()));
  });
  const auto bad = std::ranges::min_element(first_bad);
  if (bad == first_bad.end() || *bad == count) return;
  const auto cols = static_cast<std::size_t>(weights.cols);
  throw InputError(fmt::format("{}: the weight at [{}, {}] is {}", tensor, *bad / cols, *bad % cols,
                               weights.values[*bad]));
}

WeightRange range_of(const MatrixView& weights) {
  std::vector<WeightRange> ranges(pieces_of(weights));
  for_pieces(weights, [&](std::size_t piece, std::int64_t first, std::int64_t end) {
    group_kernels().range(weights.row(first).data(), (end - first) * weights.cols, &ranges[piece].low,
                          &ranges[piece].high);
  });
  return std::accumulate(ranges.begin(), ranges.end(), ranges.empty() ? WeightRange{} : ranges.front(),
                         [](const WeightRange& a, const WeightRange& b) {
                           return WeightRange{std::min(a.low, b.low), std::max(a.high, b.high)};
                         });
}

double frobenius_error(const MatrixView& weights, const StoredMatrix& stored) {
  std::vector<double> sums(pieces_of(weights));
  for_pieces(weights, [&](std::size_t piece, std::int64_t first, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(weights.cols));
    double sum = 0;
    for (std::int64_t r = first; r < end; ++r) {
      dequantize_row(stored, r, row);
      const std::span<const float> wanted = weights.row(r);
      for (std::size_t k = 0; k < row.size(); ++k) {
        const double error = static_cast<double>(wanted[k]) - static_cast<double>(row[k]);
        sum += error * error;
      }
    }
    sums[piece] = sum;
  });
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

}  // namespace knapsaq
