#pragma once

#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/rounded_matrix.h"

namespace knapsaq {

/// GPTQ's codes for the metadata already in `matrix`, whatever method found them; its codes are overwritten.
/// In parallel. Not for a matrix with points.
void choose_gptq_codes(const MatrixView& weights, const HessianFactor& factor, RoundedMatrix& matrix);

}  // namespace knapsaq
