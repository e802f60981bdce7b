#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// GPTQ's view of a linear's inputs: the order in which it quantizes the columns, and for each column how
/// much of the earlier errors it compensates.
///
/// With the damped Hessian in that order, H = R R^T with R upper triangular, and the errors e = w - w_hat of
/// a row,
///   e H e^T = sum_k R_kk^2 (e_k + sum_{j<k} e_j R_jk / R_kk)^2,
/// so the best choice for column k after the columns before it is to round w_k + sum_{j<k} e_j feedback_jk.
/// This is GPTQ (Frantar et al. 2022, Algorithm 1), which writes the same numbers with the Cholesky factor of
/// H^-1, as Chee et al. 2023 (QuIP, Theorem 6) show. Without the inverse, the factorisation takes a quarter
/// of the operations (width^3 / 3) and keeps more digits.
struct HessianFactor final : PreparedInputs {
  std::int64_t width = 0;
  std::int64_t together = 1;
  /// [width] order[i] is the column quantized i-th: by descending mean square of its input (GPTQ's activation
  /// order); of equal columns, the lower index comes first. Runs of `together` columns, whose codes are
  /// chosen together, stay so; see MomentFactor::order.
  std::vector<std::int32_t> order;
  /// [width, width] in that order, row-major: [j, k] for j < k is R_jk / R_kk. Elements on and below the
  /// diagonal are unused.
  std::unique_ptr<const float[]> feedback;
  std::vector<float> diagonal;  ///< [width] in that order: R_kk of the Hessian over the mean of its diagonal
  /// [width] by column as in the weights: the weight of this column's squared error when scales are chosen,
  /// R_kk sqrt(H_kk), over the mean of the diagonal. R_kk^2 is the cost of an error that later columns
  /// compensate as well as they can; H_kk is its cost without compensation. On the embedded models, the
  /// geometric mean gave smaller Hessian errors than either: up to 36 % smaller than R_kk^2 at 2 bits, up to
  /// 9 % smaller than H_kk at 3 bits, and at 4 bits up to 1 % and 4 %.
  std::vector<float> importance;
  /// The damping added to the diagonal, as a multiple of its mean.
  double damping = 0;
};

/// In parallel; the result does not depend on the number of threads. Inputs that are always zero (dead
/// columns) neither give nor receive feedback. The diagonal is damped by 0.01 of its mean. A Hessian that is
/// then not positive definite in fp32 is factored in fp64, then with ten times the damping, and so on up to a
/// hundred times the mean. Throws UsageError if `inputs` is null or has no second moments, and InputError,
/// naming the input, if they are not finite or not those of any inputs.
std::unique_ptr<const HessianFactor> factor_hessian(const InputStatistics* inputs, std::int64_t together = 1);

}  // namespace knapsaq
