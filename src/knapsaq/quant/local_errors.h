#pragma once

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// Distances between a quantized matrix and the original, dW = W - Q(W).
struct LocalErrors {
  double fnorm = 0;     ///< || dW ||_F, what MXQ minimises (its Eq. 3)
  double relative = 0;  ///< || dW ||_F / || W ||_F; 0 if W is 0
  /// tr(dW H dW^T) with H = X^T X / tokens: the mean over tokens of || dW x ||^2, the squared error of the
  /// linear's output. If only mean squares of the inputs are known, H is their diagonal, as if inputs were
  /// uncorrelated. 0 without statistics.
  double hessian = 0;
  /// sum_r p_r || dW_r ||^2 with p_r the share of tokens that look up row r: the mean over tokens of the
  /// squared error of an embedding's output. 0 without shares.
  double lookup = 0;
};

/// In parallel; products in fp32, sums in double in an order that depends on the shape alone. The Hessian
/// error takes rows * cols^2 floating-point operations. `output_scales`, if given, are the divisors of the
/// outputs (a folding): the Hessian error then refers to the original outputs. `row_shares`, if given, has
/// one element per row. Throws InputError if the statistics have another width.
LocalErrors local_errors(const MatrixView& weights, const StoredMatrix& stored, const InputStatistics* inputs,
                         std::span<const float> output_scales = {}, std::span<const float> row_shares = {});

}  // namespace knapsaq
