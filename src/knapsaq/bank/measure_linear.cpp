#include "knapsaq/bank/measure_linear.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <mutex>
#include <numeric>

#include <fmt/format.h>

#include "knapsaq/bank/magnitude_percentiles.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/groupwise.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

namespace {

// 256 KiB of floats: stays in the L2 cache while every scheme is tried on it.
constexpr std::int64_t kPieceWeights = 65536;

/// The matrix in pieces of whole rows, which depend on shape and schemes only.
class Pieces {
 public:
  Pieces(const TensorView& weights, std::span<const Scheme> schemes)
      : weights_(weights), rows_(weights.shape[0]), cols_(weights.shape[1]) {
    std::int64_t unit = 1;
    for (const Scheme& scheme : schemes) unit = std::lcm(unit, rows_per_unit(scheme, cols_));
    rows_per_piece_ = std::max<std::int64_t>(kPieceWeights / (unit * cols_), 1) * unit;
  }

  std::size_t count() const {
    return static_cast<std::size_t>((rows_ + rows_per_piece_ - 1) / rows_per_piece_);
  }

  /// Calls fn(piece's number, its first row, its weights) for all pieces, in parallel.
  template <class Function>
  void for_each(Function&& fn) const {
    parallel_for(count(), [&](std::size_t piece) {
      check_cancelled();
      const std::int64_t first = static_cast<std::int64_t>(piece) * rows_per_piece_;
      const std::int64_t rows = std::min(rows_per_piece_, rows_ - first);
      // Kept from piece to piece: fresh memory for each would cost as much as a scheme.
      thread_local std::vector<float> floats;
      floats.resize(static_cast<std::size_t>(rows * cols_));
      read_floats(weights_, first * cols_, floats);
      fn(piece, first, MatrixView{rows, cols_, floats});
    });
  }

 private:
  const TensorView& weights_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t rows_per_piece_;
};

/// Sums of powers, in eight lanes that the compiler can keep in vector registers.
struct Lanes {
  std::array<double, 8> sums{};
  double total() const { return std::accumulate(sums.begin(), sums.end(), 0.0); }
};

double sum_of(std::span<const float> weights) {
  Lanes lanes;
  std::size_t k = 0;
  for (; k + 8 <= weights.size(); k += 8) {
    for (std::size_t i = 0; i < 8; ++i) lanes.sums[i] += static_cast<double>(weights[k + i]);
  }
  for (; k < weights.size(); ++k) lanes.sums[0] += static_cast<double>(weights[k]);
  return lanes.total();
}

struct Moments {
  double second = 0;
  double fourth = 0;
};

Moments moments_of(std::span<const float> weights, double mean) {
  Lanes second;
  Lanes fourth;
  const auto add = [&](std::size_t lane, float weight) {
    const double square = (static_cast<double>(weight) - mean) * (static_cast<double>(weight) - mean);
    second.sums[lane] += square;
    fourth.sums[lane] += square * square;
  };
  std::size_t k = 0;
  for (; k + 8 <= weights.size(); k += 8) {
    for (std::size_t i = 0; i < 8; ++i) add(i, weights[k + i]);
  }
  for (; k < weights.size(); ++k) add(0, weights[k]);
  return {second.total(), fourth.total()};
}

void check_weights(const MatrixView& piece, std::int64_t first_row, std::string_view tensor) {
  // Whether any magnitude is beyond the limit, NaN and infinity included, without a branch per weight.
  const auto limit = std::bit_cast<std::uint32_t>(kLargestWeight);
  std::uint32_t beyond = 0;
  for (const float weight : piece.values) {
    // The sign bit of the difference is set where limit < |weight|.
    beyond |= limit - (std::bit_cast<std::uint32_t>(weight) & 0x7FFFFFFFu);
  }
  if (beyond >> 31 == 0) return;
  const auto bad =
      std::ranges::find_if(piece.values, [](float weight) { return !(std::fabs(weight) <= kLargestWeight); });
  const std::int64_t at = bad - piece.values.begin();
  throw InputError(
      fmt::format("{}: the weight at [{}, {}] is {}; weights must be finite and at most {} to be "
                  "stored with scales in fp16: get the checkpoint anew, or set this weight right in it",
                  tensor, first_row + at / piece.cols, at % piece.cols, *bad, kLargestWeight));
}

WeightRange united(const std::vector<WeightRange>& ranges) {
  WeightRange all = ranges.front();
  for (const WeightRange& range : ranges) {
    all = {std::min(all.low, range.low), std::max(all.high, range.high)};
  }
  return all;
}

}  // namespace

LinearMeasurement measure_linear(const TensorView& weights, std::span<const Scheme> schemes,
                                 std::string_view tensor, const std::function<void(std::uint64_t)>& advance) {
  if (weights.shape.size() != 2 || weights.shape[0] < 1 || weights.shape[1] < 1 ||
      !is_weight_type(weights.type)) {
    throw InputError(fmt::format("{}: not a matrix of F16, BF16 or F32 weights", tensor));
  }
  for (const Scheme& scheme : schemes) {
    if (quantizer(scheme.method).groupwise() == nullptr) {
      throw UsageError(fmt::format("{}: only methods without calibration are measured by the group: rtn, hqq",
                                   to_string(scheme)));
    }
  }
  const Pieces pieces(weights, schemes);
  const auto total = static_cast<double>(weights.elements());
  constexpr std::array kPercentages = {0.0, 99.0, 99.9, 99.99, 100.0};
  static_assert(kPercentages.size() == std::extent_v<decltype(WeightStatistics::percentiles)>);
  MagnitudePercentiles percentiles(weights.elements(), kPercentages);
  std::mutex percentiles_mutex;
  const auto count_magnitudes = [&](const MatrixView& piece) {
    MagnitudePercentiles::Counts counts = percentiles.counts();
    percentiles.count(piece.values, counts);
    const std::lock_guard lock(percentiles_mutex);
    percentiles.add(counts);
  };

  std::vector<WeightRange> ranges(pieces.count());
  std::vector<double> sums(pieces.count());
  pieces.for_each([&](std::size_t index, std::int64_t first_row, const MatrixView& piece) {
    check_weights(piece, first_row, tensor);
    ranges[index] = range_of(piece);
    sums[index] = sum_of(piece.values);
    count_magnitudes(piece);
  });
  percentiles.end_pass();
  const WeightRange whole = united(ranges);
  const double mean = std::accumulate(sums.begin(), sums.end(), 0.0) / total;

  std::vector<Moments> moments(pieces.count());
  std::vector<double> squares(pieces.count() * schemes.size());
  pieces.for_each([&](std::size_t index, std::int64_t /*first_row*/, const MatrixView& piece) {
    for (std::size_t s = 0; s < schemes.size(); ++s) {
      squares[index * schemes.size() + s] =
          quantizer(schemes[s].method).groupwise()->squared_error(piece, schemes[s], whole);
    }
    moments[index] = moments_of(piece.values, mean);
    count_magnitudes(piece);
    advance(piece.values.size());
  });
  percentiles.end_pass();

  pieces.for_each([&](std::size_t, std::int64_t, const MatrixView& piece) { count_magnitudes(piece); });
  percentiles.end_pass();

  LinearMeasurement result;
  for (std::size_t s = 0; s < schemes.size(); ++s) {
    double square = 0;
    for (std::size_t index = 0; index < pieces.count(); ++index)
      square += squares[index * schemes.size() + s];
    result.fnorms.push_back(std::sqrt(square));
  }
  Moments all;
  for (const Moments& m : moments) all = {all.second + m.second, all.fourth + m.fourth};
  result.norm = std::sqrt(all.second + total * mean * mean);
  result.statistics.kurtosis = all.second > 0 ? all.fourth * total / (all.second * all.second) : 0;
  std::ranges::copy(percentiles.values(), result.statistics.percentiles);
  return result;
}

}  // namespace knapsaq
