#pragma once

#include <vector>

#include "knapsaq/calib/calibrator.h"
#include "knapsaq/calib/gradient_calibrator.h"

namespace knapsaq {

/// Completes the sums of experts that saw fewer tokens than their input is wide, so that none has statistics
/// without full rank, or none at all. As many rows as are missing are lent to an expert
/// (ObservedInput::lent): what the experts of the layer have on average, in gate and up, whose inputs are
/// those of one stream; in down, whose inputs have another meaning in every expert, uncorrelated ones of its
/// own average size (of that of the layer's experts if it saw no token at all). Experts that saw enough, and
/// other inputs, stay as they are.
void lend_to_experts(std::vector<ObservedInput>& inputs);

/// Makes the gradients by the outputs of experts means over all `tokens` of the text, not over those that an
/// expert saw: what an expert costs then counts as often as it is used. Each gets half a token with gradients
/// of the layer's average size, as in shares_of(), so that none costs nothing.
void spread_over_tokens(std::vector<ObservedOutput>& outputs, const std::vector<Matrix>& matrices,
                        std::uint64_t tokens);

}  // namespace knapsaq
