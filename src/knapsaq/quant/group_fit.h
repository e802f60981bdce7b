#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/quant/groupwise.h"

namespace knapsaq {

/// Where fit_groups() looks for scales and biases.
enum class Fit : std::uint8_t {
  range,   ///< ranges shrunken towards the middle: the zero point follows from the range
  affine,  ///< from there on, scale and bias by weighted least squares for the codes they give, in turns
};

/// Improves the metadata `m` that a groupwise method found for `rows`: every group gets the scale and bias
/// with the smallest error sum_k importance_k (w_k - Q(w)_k)^2 among those tried, with what `m` held among
/// them, so the error never grows. importance[cols] >= 0; candidates are compared as they are stored.
/// With second-level metadata, groups that share a step and a minimum are improved together or not at all.
void fit_groups(const MatrixView& rows, const Scheme& scheme, std::span<const float> importance, Fit fit,
                GroupMetadata& m);

}  // namespace knapsaq
