#include "knapsaq/model/kv_cache.h"

#include <limits>
#include <stdexcept>
#include <string_view>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

std::string_view name_of(CacheElement element) {
  switch (element) {
    case CacheElement::half:
      return "fp16";
    case CacheElement::int8:
      return "int8";
    case CacheElement::working:
      break;
  }
  return "working";
}

}  // namespace

KeyValueCache::KeyValueCache(const ModelConfig& config, Backend& backend, std::int64_t sequences,
                             std::int64_t capacity, CacheElement element)
    : sequences_(sequences), capacity_(capacity) {
  AttentionShape shape;
  shape.windows = sequences;
  shape.length = capacity;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    shape.heads = layer.heads;
    shape.kv_heads = layer.kv_heads;
    shape.head_dim = layer.head_dim;
    blocks_.push_back(backend.make_cache(shape, element));
  }
}

std::uint64_t KeyValueCache::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& block : blocks_) sum += block->bytes();
  return sum;
}

void KeyValueCache::shorten(std::int64_t length) {
  if (length < 0 || length > length_) throw std::invalid_argument("shorten: not as many tokens");
  length_ = length;
}

std::uint64_t KeyValueCache::bytes(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                                   std::int64_t capacity) {
  // Of the key and the value of one head of a token.
  std::int64_t of_head = 2 * config.head_dim;
  if (element == CacheElement::half) of_head *= 2;
  if (element == CacheElement::working) of_head *= 4;
  if (element == CacheElement::int8) of_head += 2 * static_cast<std::int64_t>(sizeof(float));  // scales
  std::uint64_t sum = 1;
  for (const std::int64_t factor : {config.layers, config.kv_heads, of_head, sequences, capacity}) {
    if (__builtin_mul_overflow(sum, static_cast<std::uint64_t>(factor), &sum))
      return std::numeric_limits<std::uint64_t>::max();
  }
  return sum;
}

void check_cache_memory(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                        std::int64_t capacity, std::optional<std::uint64_t> available) {
  const std::uint64_t needed = KeyValueCache::bytes(config, element, sequences, capacity);
  if (!available || needed <= *available) return;
  throw InputError(
      fmt::format("keys and values ({}) of {}{} tokens take {} of memory, and {} are free: use a smaller "
                  "--context{}",
                  name_of(element), sequences == 1 ? "" : fmt::format("{} sequences of ", sequences),
                  capacity, format_bytes(needed), format_bytes(*available),
                  element == CacheElement::int8 ? "" : " or --cache int8"));
}

}  // namespace knapsaq
