#pragma once

#include <span>

#include "knapsaq/base/random.h"
#include "knapsaq/search/front/surrogate.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Whether the space knows the Fisher cost of every level.
bool has_fisher(const SearchSpace& space);

/// Increases by Fisher costs instead of measured single changes, corrected by what was measured of any
/// points.
///
/// With p_i(l) the Fisher cost of a level above that of the variable's last one, the increase is
///   m_i(l) = p_i(l) exp(c + c_b + u_i + w_i(b) + v_i(l)),  b the bits of the level,
/// and a sample's divergence d = S (S / base)^g with S = base + sum of the m_i. The corrections have priors
/// with mean 0 and these spreads: c (which divergence is measured), c_b (Fisher costs fall short of 2 bits),
/// u_i, w_i(b), v_i(l) with long tails (a few variables are off by factors of ten), g (increases do not add
/// up). They are the most probable ones for the samples, by Gauss-Newton steps on log d; with `random`, a
/// draw from half the spread that the samples leave open. Deterministic. Throws std::invalid_argument if the
/// largest point is not among the samples or a Fisher cost is unknown; Cancelled.
SingleIncreases fisher_increases(const SearchSpace& space, std::span<const Sample> samples,
                                 Random* random = nullptr);

}  // namespace knapsaq
