#include "knapsaq/model/kv_cache.h"

#include <algorithm>
#include <initializer_list>
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
    blocks_.push_back(layer.is_attention() ? backend.make_cache(shape, element) : nullptr);
    states_.push_back(layer.is_attention() ? nullptr
                                           : backend.make_state({.sequences = sequences,
                                                                 .channels = layer.recurrence.channels,
                                                                 .taps = layer.recurrence.taps,
                                                                 .value_heads = layer.recurrence.value_heads,
                                                                 .key_dim = layer.recurrence.key_dim,
                                                                 .value_dim = layer.recurrence.value_dim}));
  }
}

bool KeyValueCache::has_states() const {
  return std::ranges::any_of(states_, [](const auto& state) { return state != nullptr; });
}

std::uint64_t KeyValueCache::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& block : blocks_) sum += block ? block->bytes() : 0;
  const auto add = [&](const States& states) {
    for (const auto& state : states) sum += state ? state->bytes() : 0;
  };
  add(states_);
  for (const Kept& kept : kept_) add(kept.states);
  return sum;
}

std::int64_t KeyValueCache::reachable(std::int64_t length) const {
  if (length >= length_ && !advancing_) return length_;
  if (!has_states()) return std::min(length, length_);
  std::int64_t best = 0;
  for (const Kept& kept : kept_)
    if (kept.length <= std::min(length, length_)) best = std::max(best, kept.length);
  return best;
}

void KeyValueCache::shorten(std::int64_t length) {
  if (length < 0 || length > length_ || reachable(length) != length)
    throw std::invalid_argument("shorten: not as many tokens, or a length that was not kept");
  std::erase_if(kept_, [&](const Kept& kept) { return kept.length > length; });
  if (length < length_ || advancing_) {
    const auto kept = std::ranges::find(kept_, length, &Kept::length);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (!states_[i]) continue;
      if (kept != kept_.end()) {
        states_[i]->assign(*kept->states[i]);
      } else {
        states_[i]->clear();
      }
    }
  }
  length_ = length;
  advancing_ = false;
}

void KeyValueCache::keep() {
  if (!has_states() || length_ == 0 || advancing_) return;
  if (!kept_.empty() && kept_.back().length == length_) return;
  Kept now;
  if (kept_.size() == kKept) {  // its memory is used again
    now = std::move(kept_.front());
    kept_.erase(kept_.begin());
  }
  now.length = length_;
  now.states.resize(states_.size());
  for (std::size_t i = 0; i < states_.size(); ++i) {
    if (!states_[i]) continue;
    if (now.states[i]) {
      now.states[i]->assign(*states_[i]);
    } else {
      now.states[i] = states_[i]->copy();
    }
  }
  kept_.push_back(std::move(now));
}

RecurrentState& KeyValueCache::state(std::int64_t index) {
  advancing_ = true;
  return *states_.at(static_cast<std::size_t>(index));
}

void KeyValueCache::advance(std::int64_t tokens) {
  length_ += tokens;
  advancing_ = false;
}

std::uint64_t KeyValueCache::bytes(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                                   std::int64_t capacity) {
  std::uint64_t sum = 0;
  const auto add = [&](std::initializer_list<std::int64_t> factors) {
    std::uint64_t product = 1;
    for (const std::int64_t factor : factors)
      if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(factor), &product))
        product = std::numeric_limits<std::uint64_t>::max();
    if (__builtin_add_overflow(sum, product, &sum)) sum = std::numeric_limits<std::uint64_t>::max();
  };
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerConfig layer = layer_config(config, i);
    if (!layer.is_attention()) {
      const Recurrence& state = layer.recurrence;
      add({state.taps - 1, state.channels, sequences, 4});
      add({state.value_width(), state.key_dim, sequences, 4});
      continue;
    }
    // Of the key and the value of one head of a token.
    std::int64_t of_head = 2 * layer.head_dim;
    if (element == CacheElement::half) of_head *= 2;
    if (element == CacheElement::working) of_head *= 4;
    if (element == CacheElement::int8) of_head += 2 * static_cast<std::int64_t>(sizeof(float));  // scales
    add({layer.kv_heads, of_head, sequences, capacity});
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
