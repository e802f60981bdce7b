#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// Two-sided rounding's view of a linear's outputs: the order in which it quantizes the rows, and for each
/// row how much of the earlier rows' errors it compensates; see choose_two_sided_codes().
struct OutputFactor final : PreparedOutputs {
  std::int64_t width = 0;
  /// [width] order[i] is the row quantized i-th: by descending mean square of the gradient by its output.
  std::vector<std::int32_t> order;
  /// [width, width] in that order, row-major, with G = R R^T and R upper triangular: [i, k] for i < k is
  /// R_ik / R_kk. Elements on and below the diagonal are unused.
  std::unique_ptr<const float[]> feedback;
};

/// In parallel; the result does not depend on the number of threads. The diagonal of G is damped by half of
/// its mean. Null if `outputs` is null, has mean squares only, or has second moments that are not positive
/// semidefinite. Throws InputError, naming the matrix, for moments that are not finite.
std::unique_ptr<const OutputFactor> factor_outputs(const OutputStatistics* outputs);

}  // namespace knapsaq
