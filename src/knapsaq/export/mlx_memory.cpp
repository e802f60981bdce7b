#include "knapsaq/export/mlx_memory.h"

#include <algorithm>

#include <fmt/format.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kStep = 2048;  // prefill_step_size
constexpr std::int64_t kHalf = 2;
constexpr std::int64_t kFloat = 4;
constexpr std::int64_t kMask = 1;

}  // namespace

void check_mlx_architecture(const ModelConfig& config) {
  if (config.positions == Positions::learned)
    throw InputError(fmt::format("mlx: mlx-lm has no model for {}", config.architecture));
  for (std::int64_t block = 0; block < config.layers; ++block)
    if (layer_config(config, block).is_mixture())
      throw InputError(
          fmt::format("mlx: {} has experts, whose quantized matrices mlx-lm reads as stacks, which are "
                      "not written yet; use another engine",
                      config.architecture));
}

std::uint64_t mlx_work_space(const ModelConfig& config, std::int64_t context, const CacheType& cache) {
  check_mlx_architecture(config);
  const std::int64_t tokens = std::min(context, kStep);
  const std::int64_t cells = (context + kMlxCells - 1) / kMlxCells * kMlxCells;
  const std::int64_t queries = config.heads * config.head_dim;
  const std::int64_t keys = config.kv_heads * config.head_dim;
  const std::int64_t of_token = kHalf * (8 * config.hidden + 4 * queries + 4 * keys + 5 * config.ffn);
  const std::int64_t of_layer = 2 * config.kv_heads * cache.bytes(config.head_dim) * cells;
  const std::int64_t scores = cache.group > 0 ? (kHalf * config.heads + kMask) * tokens * cells : 0;
  const std::int64_t logits = 3 * kFloat * config.vocab;  // the sampler's copies included
  return static_cast<std::uint64_t>(tokens * of_token + of_layer + scores + logits);
}

}  // namespace knapsaq
