#pragma once

#include <cstdint>

#include "knapsaq/export/engine_memory.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// mlx-lm's cache grows by so many tokens.
inline constexpr std::int64_t kMlxCells = 256;

/// Throws InputError for an architecture that mlx-lm has no model for.
void check_mlx_architecture(const ModelConfig& config);

/// Bytes of mlx-lm's activations and logits, by a rule that follows from its source: a prompt is computed in
/// steps of 2048 tokens in 16 bits, of which all results of about one layer exist at a time; a layer's cache
/// is copied when it grows; a quantized cache is attended to without a fused kernel, so that the scores of a
/// step with all tokens exist. On a CPU, with fused attention taken for free, 1.1 to 1.4 times what was
/// measured; not tried on Metal, whose order of work is its own. Throws as
/// check_mlx_architecture().
std::uint64_t mlx_work_space(const ModelConfig& config, std::int64_t context, const CacheType& cache);

}  // namespace knapsaq
