#pragma once

#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/quant/hessian_factor.h"

namespace knapsaq {

/// GPTQ's codes for the metadata already in `packed`, whatever method found them; its codes are overwritten.
/// In parallel.
void choose_gptq_codes(const MatrixView& weights, const HessianFactor& factor, PackedMatrix& packed);

}  // namespace knapsaq
