#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// What a decoder keeps of the tokens before: keys and values of all blocks with attention, and the states of
/// all others, for `sequences` sequences that grow in step, up to `capacity` tokens (Decoder::next()). It
/// belongs to the backend for which it was made.
///
/// Keys and values of some tokens can be dropped at any length. States cannot be cut back, so a cache of a
/// model that has them returns only to lengths that it kept.
class KeyValueCache {
 public:
  KeyValueCache(const ModelConfig& config, Backend& backend, std::int64_t sequences, std::int64_t capacity,
                CacheElement element = CacheElement::working);

  std::int64_t sequences() const { return sequences_; }
  std::int64_t capacity() const { return capacity_; }
  /// Number of tokens of every sequence so far.
  std::int64_t length() const { return length_; }
  /// Whether the model has states.
  bool has_states() const;
  /// The largest length up to `length` and length() that shorten() can return to.
  std::int64_t reachable(std::int64_t length) const;
  /// Removes all tokens but the first `length` of every sequence; the memory stays allocated. More than
  /// length(), and what is not reachable, is std::invalid_argument.
  void shorten(std::int64_t length);
  /// Copies the states, so that shorten() can return to this length. Of the lengths that were kept before,
  /// the kKept - 1 largest stay; without states nothing happens.
  void keep();
  static constexpr std::size_t kKept = 2;
  /// Removes all tokens.
  void clear() { shorten(0); }
  std::uint64_t bytes() const;  ///< of memory

  /// For Decoder: the memory of one block's attention, or its state; and the notice that `tokens` tokens were
  /// added in all blocks. From the first call of state() to that notice, the present length is not reachable
  /// unless it was kept.
  AttentionCache& block(std::int64_t index) { return *blocks_.at(static_cast<std::size_t>(index)); }
  RecurrentState& state(std::int64_t index);
  void advance(std::int64_t tokens);

  /// Bytes that a cache will take, except for rounding to whole vectors and for lengths that are kept;
  /// `working` as fp32, the larger of its two forms (in bf16 it takes as much as `half`). The largest number
  /// if the true one is larger.
  static std::uint64_t bytes(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                             std::int64_t capacity);

 private:
  using States = std::vector<std::unique_ptr<RecurrentState>>;
  struct Kept {
    std::int64_t length = 0;
    States states;
  };

  std::int64_t sequences_;
  std::int64_t capacity_;
  std::int64_t length_ = 0;
  std::vector<std::unique_ptr<AttentionCache>> blocks_;  ///< null for blocks without attention
  States states_;                                        ///< null for those with it
  bool advancing_ = false;                               ///< some states are ahead of length_
  std::vector<Kept> kept_;                               ///< ascending
};

/// Throws InputError, saying to use a smaller --context, if a cache takes more than `available` bytes; never
/// if that is unknown (Backend::available_memory()). Call it before other work starts.
void check_cache_memory(const ModelConfig& config, CacheElement element, std::int64_t sequences,
                        std::int64_t capacity, std::optional<std::uint64_t> available);

}  // namespace knapsaq
