#pragma once

#include <memory>

#include "knapsaq/tune/tunable_matrix.h"

namespace knapsaq {

// make_tunable() for each form.

/// Groups with scale and bias in fp16.
std::unique_ptr<TunableMatrix> tunable_affine(PackedMatrix matrix);
/// Groups whose scales and zero points are quantized themselves: codes of scales and zero points, steps and
/// minima.
std::unique_ptr<TunableMatrix> tunable_affine_twice(PackedMatrix matrix);
/// d, and dmin or m, of every block; scales and minima of the sub-blocks.
std::unique_ptr<TunableMatrix> tunable_ggml(GgmlMatrix matrix);
/// absmax of every block, and the nested absmax. The offset stays.
std::unique_ptr<TunableMatrix> tunable_nf4(Nf4Matrix matrix);

}  // namespace knapsaq
