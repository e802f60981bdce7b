#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Tokens that are enough to find scales with: llm-awq looks at 512 of every linear's input; more are
/// steadier and cost little.
inline constexpr std::int64_t kFoldingTokens = 8192;

/// Folding::origin() of what find_folding() finds with these arguments.
std::string folding_origin(const InputSource& inputs, const Scheme& scheme);

/// The search for scales of AWQ (Lin et al. 2023, Eqs. 4 and 5; auto_scale of llm-awq). At every fold point
///   s = mean |x|^alpha / sqrt(max * min),   alpha in {0, 1/20, .. 19/20}, per input channel,
/// is tried, and the alpha is taken whose quantized weights Q(W s) / s change outputs least:
/// - o, down, fc2: their own output, tr(dW H dW^T) with the second moments of `inputs`;
/// - q/k/v, gate/up and fc1: the output of the attention or MLP half of the block, its squared error over the
///   tokens of `samples` with the inputs of the full-precision model, plus the mean of the linears' own
///   errors, all as parts of those without scales. (AWQ takes the half block's alone, which hardly sees q and
///   k beside v. In a small model one q that matters more than its share then costs more than all scales
///   gain: docs/benchmarks.md.)
/// Fold points are independent of each other: each is searched with everything else in full precision.
///
/// `scheme` is what Q is: one that needs no statistics, as "rtn:b3g128". One folding serves all schemes of a
/// bank. Scales of norms are such that the folded weights are exact in the type that the checkpoint has them
/// in. A point whose best alpha is 0 is left out.
///
/// In memory: one block's weights, and a few times the hidden states of the first windows of `samples`, up to
/// 8192 tokens (at least one window). Throws UsageError for a scheme that needs statistics and for inputs
/// without second moments; Cancelled.
Folding find_folding(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                     const InputSource& inputs, const Samples& samples, const Scheme& scheme,
                     Backend& backend, Progress& progress = Progress::none());

}  // namespace knapsaq
