#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Number of tokens that is enough to find scales: llm-awq uses 512 of every linear's input; more give
/// steadier results at little cost.
inline constexpr std::int64_t kFoldingTokens = 8192;

/// Folding::origin() of find_folding()'s result with these arguments.
std::string folding_origin(const InputSource& inputs, const Scheme& scheme);

/// The search for AWQ's scales (Lin et al. 2023, Eqs. 4 and 5; auto_scale of llm-awq). At every fold point,
/// the candidates are
///   s = mean |x|^alpha / sqrt(max * min),   alpha in {0, 1/20, .. 19/20}, per input channel,
/// and the chosen alpha is the one whose quantized weights Q(W s) / s change outputs least:
/// - o, down, fc2: their own output, tr(dW H dW^T) with the second moments of `inputs`;
/// - q/k/v, gate/up and fc1: the output of the attention or MLP half of the block, its squared error over the
///   tokens of `samples` with the inputs of the full-precision model, plus the mean of the linears' own
///   errors, all relative to those without scales. (AWQ uses the half block's error alone, which hardly
///   depends on q and k compared with v. In a small model, one q that matters more than its share then costs
///   more than all scales gain: docs/benchmarks.md.)
/// Fold points are independent of each other: each is searched with everything else in full precision.
///
/// `scheme` is Q: one that needs no statistics, such as "rtn:b3g128". One folding serves all schemes of a
/// bank. Scales of norms are chosen so that the folded weights are exact in the checkpoint's type. A point
/// whose best alpha is 0 is omitted.
///
/// In memory: one block's weights, and a few times the hidden states of the first windows of `samples`, up to
/// 8192 tokens (at least one window). Throws UsageError for a scheme that needs statistics and for inputs
/// without second moments; Cancelled.
Folding find_folding(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                     const InputSource& inputs, const Samples& samples, const Scheme& scheme,
                     Backend& backend, Progress& progress = Progress::none());

}  // namespace knapsaq
