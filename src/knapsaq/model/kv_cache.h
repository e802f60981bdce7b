#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/model/config.h"

namespace knapsaq {

/// Keys and values of all blocks of a decoder, for `sequences` sequences that grow in step, up to `capacity`
/// tokens (Decoder::next()). Belongs to the backend it was made for.
class KeyValueCache {
 public:
  KeyValueCache(const ModelConfig& config, Backend& backend, std::int64_t sequences, std::int64_t capacity,
                CacheElement element = CacheElement::working);

  std::int64_t sequences() const { return sequences_; }
  std::int64_t capacity() const { return capacity_; }
  /// Tokens that every sequence has so far.
  std::int64_t length() const { return length_; }
  /// Begins anew; the memory stays.
  void clear() { length_ = 0; }
  /// Forgets all tokens but the first `length` of every sequence. Throws std::invalid_argument for more than
  /// there are.
  void shorten(std::int64_t length);
  std::uint64_t bytes() const;  ///< of memory

  /// For Decoder: the memory of one block's attention, and that `tokens` tokens were added in all of them.
  AttentionCache& block(std::int64_t index) { return *blocks_.at(static_cast<std::size_t>(index)); }
  void advance(std::int64_t tokens) { length_ += tokens; }

  /// Bytes that it takes, but for rounding to whole vectors.
  static std::uint64_t bytes(const ModelConfig& config, std::uint64_t bytes_per_number,
                             std::int64_t sequences, std::int64_t capacity);

 private:
  std::int64_t sequences_;
  std::int64_t capacity_;
  std::int64_t length_ = 0;
  std::vector<std::unique_ptr<AttentionCache>> blocks_;
};

}  // namespace knapsaq
