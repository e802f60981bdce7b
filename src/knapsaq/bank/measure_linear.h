#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/compute/tensor.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// The errors of one weight matrix in each scheme, and its statistics.
struct LinearMeasurement {
  std::vector<double> fnorms;  ///< in the order of the schemes
  double norm = 0;             ///< || W ||_F
  WeightStatistics statistics;
};

/// Measures the matrix `weights` [out, in] (F16, BF16 or F32, as stored) in all schemes, in parallel. Weights
/// are read in pieces of a few rows, which are measured in all schemes while they are in the cache. Besides
/// the stored tensor, only those pieces are in memory. The result depends neither on the number of threads
/// nor on the machine.
///
/// Throws InputError, naming `tensor`, for a weight that is NaN, infinite or beyond kLargestWeight, and
/// Cancelled. `advance` receives the numbers of finished weights, from any thread; they sum to out * in.
LinearMeasurement measure_linear(const TensorView& weights, std::span<const Scheme> schemes,
                                 std::string_view tensor, const std::function<void(std::uint64_t)>& advance);

}  // namespace knapsaq
