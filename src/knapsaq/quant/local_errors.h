#pragma once

#include <limits>
#include <span>

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
  /// The divergence in nats per token that Fisher information predicts for dW alone, with g the gradient of
  /// the loss by the output (OutputStatistics): 1/2 sum_k E[g_k^2] (dW H dW^T)_kk for a matrix that inputs
  /// are multiplied by, plus 1/2 sum_r p_r sum_k E[g_k^2] dW_rk^2 for one whose rows are looked up. It is 1/2
  /// tr(G dW H dW^T) (K-FAC) with the diagonal of G alone: the full one takes rows^2 * cols more operations,
  /// and predicts no better after a few measurements. NaN: unknown.
  double fisher = std::numeric_limits<double>::quiet_NaN();
};

/// Mean squares of the gradients by a matrix's outputs; what a matrix does not do is empty.
struct GradientSquares {
  std::span<const float> product;  ///< [rows] by the products
  std::span<const float> lookup;   ///< [cols] by the rows that are looked up
};

/// In parallel; products in fp32, sums in double in an order that depends on the shape alone. The Hessian
/// error takes rows * cols^2 floating-point operations. `output_scales`, if given, are the divisors of the
/// outputs (a folding): the Hessian error then refers to the original outputs. `row_shares`, if given, has
/// one element per row. With `gradients`, the Fisher error is known; it needs the others' statistics: inputs
/// for products, shares for rows that are looked up. Throws InputError if the statistics have another width.
LocalErrors local_errors(const MatrixView& weights, const StoredMatrix& stored, const InputStatistics* inputs,
                         std::span<const float> output_scales = {}, std::span<const float> row_shares = {},
                         const GradientSquares& gradients = {});

}  // namespace knapsaq
