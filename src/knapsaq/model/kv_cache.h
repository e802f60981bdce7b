#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/model/config.h"

namespace knapsaq {

/// Keys and values of all blocks of a decoder, for `sequences` sequences that grow in step, up to `capacity`
/// tokens (Decoder::next()). It belongs to the backend for which it was made.
class KeyValueCache {
 public:
  KeyValueCache(const ModelConfig& config, Backend& backend, std::int64_t sequences, std::int64_t capacity,
                CacheElement element = CacheElement::working);

  std::int64_t sequences() const { return sequences_; }
  std::int64_t capacity() const { return capacity_; }
  /// Number of tokens of every sequence so far.
  std::int64_t length() const { return length_; }
  /// Removes all tokens but the first `length` of every sequence; the memory stays allocated. More than
  /// length() is std::invalid_argument.
  void shorten(std::int64_t length);
  /// Removes all tokens.
  void clear() { shorten(0); }
  std::uint64_t bytes() const;  ///< of memory

  /// For Decoder: the memory of one block's attention; and the notice that `tokens` tokens were added in all
  /// blocks.
  AttentionCache& block(std::int64_t index) { return *blocks_.at(static_cast<std::size_t>(index)); }
  void advance(std::int64_t tokens) { length_ += tokens; }

  /// Bytes that a cache will take, except for rounding to whole vectors; `working` as fp32, the larger of its
  /// two forms (in bf16 it takes as much as `half`). The largest number if the true one is larger.
  static std::uint64_t bytes(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                             std::int64_t capacity);

 private:
  std::int64_t sequences_;
  std::int64_t capacity_;
  std::int64_t length_ = 0;
  std::vector<std::unique_ptr<AttentionCache>> blocks_;
};

/// Throws InputError, saying to use a smaller --context, if a cache takes more than `available` bytes; never
/// if that is unknown (Backend::available_memory()). Call it before other work starts.
void check_cache_memory(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                        std::int64_t capacity, std::optional<std::uint64_t> available);

}  // namespace knapsaq
