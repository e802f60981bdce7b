#include "knapsaq/model/kv_cache.h"

#include <stdexcept>

namespace knapsaq {

KeyValueCache::KeyValueCache(const ModelConfig& config, Backend& backend, std::int64_t sequences,
                             std::int64_t capacity, CacheElement element)
    : sequences_(sequences), capacity_(capacity) {
  AttentionShape shape;
  shape.windows = sequences;
  shape.length = capacity;
  shape.heads = config.heads;
  shape.kv_heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  for (std::int64_t i = 0; i < config.layers; ++i) blocks_.push_back(backend.make_cache(shape, element));
}

void KeyValueCache::shorten(std::int64_t length) {
  if (length < 0 || length > length_) throw std::invalid_argument("shorten: the cache has fewer tokens");
  length_ = length;
}

std::uint64_t KeyValueCache::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& block : blocks_) sum += block->bytes();
  return sum;
}

std::uint64_t KeyValueCache::bytes(const ModelConfig& config, std::uint64_t bytes_per_number,
                                   std::int64_t sequences, std::int64_t capacity) {
  const std::int64_t numbers = 2 * config.layers * sequences * capacity * config.kv_heads * config.head_dim;
  return static_cast<std::uint64_t>(numbers) * bytes_per_number;
}

}  // namespace knapsaq
