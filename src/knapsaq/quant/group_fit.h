#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/quant/groupwise.h"

namespace knapsaq {

/// How fit_groups() searches for scales and biases.
enum class Fit : std::uint8_t {
  range,   ///< ranges shrunk towards the middle: the zero point follows from the range
  affine,  ///< starting there, alternates between codes and weighted least squares for scale and bias
};

/// Improves the metadata `m` that a groupwise method found for `rows`. Every group gets the scale and bias
/// with the smallest error sum_k importance_k (w_k - Q(w)_k)^2 among the candidates. The present content of
/// `m` is one of them, so the error never grows. importance[cols] >= 0; candidates are compared as they are
/// stored. With second-level metadata, groups that share a step and a minimum are improved together or not at
/// all.
void fit_groups(const MatrixView& rows, const Scheme& scheme, std::span<const float> importance, Fit fit,
                GroupMetadata& m);

}  // namespace knapsaq
