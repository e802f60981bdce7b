#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// What GPTQ needs of a linear's inputs: the order in which it quantizes the columns, and for each how much
/// of the errors made before it is to make up for.
///
/// With the damped Hessian in that order, H = R R^T with R upper triangular, and the errors e = w - w_hat of
/// a row,
///   e H e^T = sum_k R_kk^2 (e_k + sum_{j<k} e_j R_jk / R_kk)^2,
/// so the best that column k can do after the columns before it is to round w_k + sum_{j<k} e_j feedback_jk.
/// That is GPTQ (Frantar et al. 2022, Algorithm 1), which writes the same numbers with the Cholesky factor of
/// H^-1, as Chee et al. 2023 (QuIP, Theorem 6) show; without the inverse it takes a quarter of the
/// factorisation's operations (width^3 / 3) and keeps more digits.
struct HessianFactor final : PreparedInputs {
  std::int64_t width = 0;
  /// [width] order[i] is the column quantized i-th: by descending mean square of its input (GPTQ's activation
  /// order), the lower column first where two are equal.
  std::vector<std::int32_t> order;
  /// [width, width] in that order, row-major: [j, k] for j < k is R_jk / R_kk. What lies on and below the
  /// diagonal has no meaning.
  std::unique_ptr<const float[]> feedback;
  /// [width] by column as in the weights: what a squared error of this column counts when scales are chosen,
  /// R_kk sqrt(H_kk), over the mean of the diagonal. R_kk^2 is what an error costs that later columns make up
  /// for as well as they can, H_kk what it costs if they do not. The geometric mean of the two gave smaller
  /// Hessian errors than either on the embedded models: than R_kk^2 by up to 36 % at 2 bits, than H_kk by up
  /// to 9 % at 3 bits, at 4 bits by up to 1 % and 4 %.
  std::vector<float> importance;
  /// What was added to the diagonal, as a multiple of its mean.
  double damping = 0;
};

/// In parallel; the result does not depend on the number of threads. Inputs that are always zero (dead
/// columns) neither get nor give feedback. The diagonal is damped by 0.01 of its mean; a Hessian that is not
/// positive definite in fp32 with that is factored in fp64, then with ten times the damping, and so on up to
/// a hundred times the mean. Throws UsageError if `inputs` is null or has no second moments, and InputError
/// naming the input if they are not finite or not those of any inputs.
std::unique_ptr<const HessianFactor> factor_hessian(const InputStatistics* inputs);

}  // namespace knapsaq
