#pragma once

#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/output_factor.h"
#include "knapsaq/quant/rounded_matrix.h"

namespace knapsaq {

/// Codes for the metadata already in `matrix` that minimise tr(G dW H dW^T), the second-order estimate of the
/// model's divergence, where GPTQ's minimise tr(dW H dW^T): adaptive rounding with the Kronecker-factored
/// Fisher information (YAQA, Tseng et al. 2025, arXiv:2505.22988).
///
/// With G = R R^T and H = S S^T, R and S upper triangular, and the errors E = W - W_hat,
///   tr(G E H E^T) = || R^T E S ||_F^2 = sum_ij R_ii^2 S_jj^2 (sum_{i'<=i, j'<=j} U_i'i E_i'j' V_j'j)^2
/// with U_i'i = R_i'i / R_ii and V_j'j = S_j'j / S_jj. So element (i, j) after those above it and those
/// before it is best rounded from w_ij plus the sum of the others in its square. With F = E V, that is
///   w_ij + sum_{j'<j} E_ij' V_j'j + sum_{i'<i} U_i'i F_i'j.
/// Elements are taken tile by tile, tiles on an antidiagonal in parallel; all but the sums inside of a tile
/// are matrix products. For m rows and n columns they take m n (m + n) operations, GPTQ's m n^2. Takes 5 m n
/// bytes of memory. The result does not depend on the number of threads.
///
/// `outputs` null: G = I, which is GPTQ's error. A matrix with points (RoundedMatrix::has_points()) needs
/// inputs with runs of kPointCols columns together; see point_rounding.h.
void choose_two_sided_codes(const MatrixView& weights, const HessianFactor& inputs,
                            const OutputFactor* outputs, RoundedMatrix& matrix);

}  // namespace knapsaq
