#include "knapsaq/compute/cpu/cached_attention.h"

#include <algorithm>
#include <new>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/query_tiles.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

// So many new tokens are attended to one after another rather than from an unpacked cache. With 2048 tokens
// before and eight query heads for every key head, unpacking takes as long as six tokens do, and a tile of
// queries reads the keys again for every query head: the two ways meet at more than 32 tokens.
constexpr std::int64_t kFewTokens = 16;

// Tokens that one task packs: whole panels of every layout, and some microseconds of work.
constexpr std::int64_t kGroup = 64;

/// Calls function(head, first, last) for tokens [first, last) of every head, which together are [begin, end),
/// on all threads. Groups begin at multiples of kGroup, so that no two write to one panel.
template <class Function>
void for_groups(std::int64_t heads, std::int64_t begin, std::int64_t end, Function&& function) {
  const std::int64_t first_group = begin / kGroup;
  const std::int64_t groups = (end + kGroup - 1) / kGroup - first_group;
  parallel_for(static_cast<std::size_t>(heads * groups), [&](std::size_t index) {
    const std::int64_t head = static_cast<std::int64_t>(index) / groups;
    const std::int64_t group = first_group + static_cast<std::int64_t>(index) % groups;
    function(head, std::max(begin, group * kGroup), std::min(end, (group + 1) * kGroup));
  });
}

/// Throws std::bad_alloc for a cache that no memory is large enough for, so that sizes below do not overflow.
void check_size(const AttentionShape& shape) {
  // More than any layout takes: padding of 64 tokens and 64 dimensions, four bytes of a key and of a value.
  constexpr double kMost = 0x1p62;
  const double heads = static_cast<double>(shape.windows) * static_cast<double>(shape.kv_heads);
  const double of_head =
      8 * static_cast<double>(shape.length + 64) * static_cast<double>(shape.head_dim + 64);
  if (heads * of_head > kMost) throw std::bad_alloc();
}

/// Hands out parts of the calling thread's scratch, all aligned to 64 bytes.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes) { t_tile.reserve(static_cast<std::size_t>(bytes)); }
  static std::int64_t size(std::int64_t count, std::size_t element) {
    return round_up(count * static_cast<std::int64_t>(element), 64);
  }
  template <class Value>
  Value* take(std::int64_t count) {
    Value* const part = reinterpret_cast<Value*>(t_tile.data() + used_);
    used_ += size(count, sizeof(Value));
    return part;
  }

 private:
  std::int64_t used_ = 0;
};

}  // namespace

/// Keys and values as Kernels::append() lays them out, head after head of sequence after sequence, in memory
/// that is made as large as it has to be.
template <class T>
class CachedAttention<T>::Panels {
 public:
  /// For shape.windows sequences of `length` tokens.
  Panels(const Kernels<T>& kernels, const AttentionShape& shape, std::int64_t length, AlignedBytes& keys,
         AlignedBytes& values)
      : heads(shape.windows * shape.kv_heads),
        head_dim(shape.head_dim),
        capacity(length),
        keys_size_(round_up(kernels.packed_keys_size(capacity, head_dim), 32)),
        values_size_(round_up(kernels.packed_values_size(capacity, head_dim), 32)) {
    keys.reserve(static_cast<std::size_t>(heads * keys_size_) * sizeof(T));
    values.reserve(static_cast<std::size_t>(heads * values_size_) * sizeof(T));
    keys_ = reinterpret_cast<T*>(keys.data());
    values_ = reinterpret_cast<T*>(values.data());
  }
  WindowPanels<T> all(const Kernels<T>& kernels) const {
    return {keys_, values_, keys_size_, values_size_, round_up(capacity, kernels.panel)};
  }
  T* keys(std::int64_t head) const { return keys_ + head * keys_size_; }
  T* values(std::int64_t head) const { return values_ + head * values_size_; }

  const std::int64_t heads;  ///< of all sequences
  const std::int64_t head_dim;
  const std::int64_t capacity;

 private:
  const std::int64_t keys_size_;  ///< elements of one head
  const std::int64_t values_size_;
  T* keys_;
  T* values_;
};

/// A `working` cache.
template <class T>
class CachedAttention<T>::Packed final : public AttentionCache {
 public:
  Packed(const Kernels<T>& kernels, const AttentionShape& shape)
      : panels(kernels, shape, shape.length, keys_, values_) {
    // Values behind the last token are multiplied by probabilities of nothing: they have to be numbers.
    keys_.clear();
    values_.clear();
  }
  std::uint64_t bytes() const override { return keys_.size() + values_.size(); }

 private:
  AlignedBytes keys_;
  AlignedBytes values_;

 public:
  const Panels panels;
};

/// Keys and values as CacheKernels lays them out, head after head of sequence after sequence. The memory is
/// not touched before there are tokens: the system gives pages as a sequence grows.
template <class T>
class CachedAttention<T>::Compact final : public AttentionCache {
 public:
  Compact(const CacheKernels& code, const AttentionShape& shape)
      : kernels(code),
        heads(shape.windows * shape.kv_heads),
        head_dim(shape.head_dim),
        capacity(shape.length),
        key_panel(code.key_panel(head_dim)),
        value_panel(code.value_panel(head_dim)),
        panels_((capacity + kCachePanel - 1) / kCachePanel),
        keys_(static_cast<std::size_t>(heads * panels_ * key_panel)),
        values_(static_cast<std::size_t>(heads * panels_ * value_panel)) {}
  std::uint64_t bytes() const override { return keys_.size() + values_.size(); }
  std::byte* keys(std::int64_t head) { return keys_.data() + head * panels_ * key_panel; }
  std::byte* values(std::int64_t head) { return values_.data() + head * panels_ * value_panel; }

  const CacheKernels& kernels;
  const std::int64_t heads;  ///< of all sequences
  const std::int64_t head_dim;
  const std::int64_t capacity;
  const std::int64_t key_panel;  ///< bytes
  const std::int64_t value_panel;

 private:
  std::int64_t panels_;  ///< of one head
  AlignedBytes keys_;
  AlignedBytes values_;
};

namespace {

template <class Cache>
void check_cache(const AttentionShape& shape, const Cache& cache) {
  require(shape.past >= 0 && shape.past <= cache.capacity && shape.length <= cache.capacity - shape.past &&
              shape.windows * shape.kv_heads == cache.heads && shape.head_dim == cache.head_dim,
          "extend: cache of another shape");
}

/// Where the new tokens of a key head lie: the first one's key and value.
template <class T>
struct NewHead {
  const T* k;
  const T* v;
  NewHead(const NewTokens& tokens, std::int64_t head) {
    const AttentionShape& shape = *tokens.shape;
    const std::int64_t row = head / shape.kv_heads * shape.length;
    const std::int64_t column = head % shape.kv_heads * shape.head_dim;
    k = working<T>(*tokens.k) + row * tokens.k->cols() + column;
    v = working<T>(*tokens.v) + row * tokens.v->cols() + column;
  }
};

}  // namespace

template <class T>
std::unique_ptr<AttentionCache> CachedAttention<T>::make_cache(const AttentionShape& shape,
                                                               CacheElement element) const {
  require(shape.windows >= 0 && shape.length >= 0 && shape.kv_heads > 0 && shape.head_dim > 0,
          "make_cache: no such shape");
  check_size(shape);
  switch (element) {
    case CacheElement::half:
      return std::make_unique<Compact>(*kernels_.half_cache, shape);
    case CacheElement::int8:
      return std::make_unique<Compact>(*kernels_.int8_cache, shape);
    case CacheElement::working:
      break;
  }
  return std::make_unique<Packed>(kernels_, shape);
}

template <class T>
void CachedAttention<T>::append(const NewTokens& tokens, AttentionCache& cache) {
  if (auto* compact = dynamic_cast<Compact*>(&cache)) {
    check_cache(*tokens.shape, *compact);
    append(tokens, *compact);
  } else {
    auto& packed = dynamic_cast<Packed&>(cache);
    check_cache(*tokens.shape, packed.panels);
    append(tokens, packed.panels);
  }
}

template <class T>
void CachedAttention<T>::extend(const NewTokens& tokens, AttentionCache& cache) {
  const AttentionShape& shape = *tokens.shape;
  if (auto* compact = dynamic_cast<Compact*>(&cache)) {
    check_cache(shape, *compact);
    if (shape.length <= kFewTokens) {
      for (std::int64_t i = 0; i < shape.length; ++i) extend_by_one(tokens, i, *compact);
      return;
    }
    const Panels panels(kernels_, shape, shape.past + shape.length, unpacked_keys_, unpacked_values_);
    append(tokens, *compact);
    unpack(tokens, *compact, panels);
    return attend(tokens, panels);
  }
  const Panels& panels = dynamic_cast<Packed&>(cache).panels;
  check_cache(shape, panels);
  if (shape.length == 1) return extend_by_one(tokens, panels);
  append(tokens, panels);
  attend(tokens, panels);
}

template <class T>
void CachedAttention<T>::append(const NewTokens& tokens, const Panels& cache) {
  const std::int64_t past = tokens.shape->past;
  const std::int64_t scratch_bytes = kernels_.attention_scratch(cache.head_dim);
  for_groups(cache.heads, past, past + tokens.shape->length,
             [&](std::int64_t head, std::int64_t first, std::int64_t last) {
               const NewHead<T> from(tokens, head);
               std::byte* const scratch = Scratch(scratch_bytes).take<std::byte>(scratch_bytes);
               for (std::int64_t position = first; position < last; ++position) {
                 const std::int64_t row = position - past;
                 kernels_.append(tokens.k_transform, from.k + row * tokens.k->cols(),
                                 from.v + row * tokens.v->cols(), position, cache.capacity, scratch,
                                 cache.keys(head), cache.values(head));
               }
             });
}

template <class T>
void CachedAttention<T>::append(const NewTokens& tokens, Compact& cache) {
  const std::int64_t past = tokens.shape->past;
  const std::int64_t head_dim = cache.head_dim;
  const HeadTransform as_it_is{.head_dim = head_dim};
  for_groups(cache.heads, past, past + tokens.shape->length,
             [&](std::int64_t head, std::int64_t first, std::int64_t last) {
               const NewHead<T> from(tokens, head);
               Scratch scratch(2 * Scratch::size(head_dim, sizeof(float)));
               float* const key = scratch.take<float>(head_dim);
               float* const value = scratch.take<float>(head_dim);
               for (std::int64_t position = first; position < last; ++position) {
                 const std::int64_t row = position - past;
                 kernels_.transform(tokens.k_transform, from.k + row * tokens.k->cols(), position, key);
                 kernels_.transform(as_it_is, from.v + row * tokens.v->cols(), 0, value);
                 cache.kernels.put(key, value, head_dim, position, cache.keys(head), cache.values(head));
               }
             });
}

template <class T>
void CachedAttention<T>::unpack(const NewTokens& tokens, Compact& cache, const Panels& unpacked) {
  const std::int64_t past = tokens.shape->past;
  const std::int64_t total = unpacked.capacity;
  const std::int64_t head_dim = cache.head_dim;
  const HeadTransform as_it_is{.head_dim = head_dim};
  const std::int64_t kernel_bytes = kernels_.attention_scratch(head_dim);
  const std::int64_t panel = kCachePanel * head_dim;
  const std::int64_t scratch_bytes =
      kernel_bytes + 2 * Scratch::size(panel, sizeof(float)) + 2 * Scratch::size(head_dim, sizeof(T));
  // Whole groups from the first token that any query sees.
  const std::int64_t sliding = tokens.shape->sliding_window;
  const std::int64_t first_seen = sliding == 0 ? 0 : std::max<std::int64_t>(0, past - sliding + 1);
  // Values behind the last token, up to the end of its panel, are multiplied by probabilities of nothing:
  // they have to be numbers.
  for_groups(cache.heads, first_seen / kGroup * kGroup, round_up(total, kernels_.panel),
             [&](std::int64_t head, std::int64_t first, std::int64_t last) {
               Scratch scratch(scratch_bytes);
               std::byte* const of_kernel = scratch.take<std::byte>(kernel_bytes);
               float* const keys = scratch.take<float>(panel);
               float* const values = scratch.take<float>(panel);
               T* const key = scratch.take<T>(head_dim);
               T* const value = scratch.take<T>(head_dim);
               const NewHead<T> from(tokens, head);
               for (std::int64_t position = first; position < last; ++position) {
                 if (position >= past && position < total) {
                   const std::int64_t row = position - past;
                   kernels_.append(tokens.k_transform, from.k + row * tokens.k->cols(),
                                   from.v + row * tokens.v->cols(), position, total, of_kernel,
                                   unpacked.keys(head), unpacked.values(head));
                   continue;
                 }
                 if (position < past) {
                   const std::int64_t place = position % kCachePanel;
                   const std::int64_t number = position / kCachePanel;
                   if (place == 0)
                     cache.kernels.take(cache.keys(head) + number * cache.key_panel,
                                        cache.values(head) + number * cache.value_panel, head_dim, keys,
                                        values);
                   kernels_.convert(keys + place * head_dim, head_dim, key);
                   kernels_.convert(values + place * head_dim, head_dim, value);
                 } else {
                   std::fill_n(key, head_dim, T{});
                   std::fill_n(value, head_dim, T{});
                 }
                 kernels_.append(as_it_is, key, value, position, total, of_kernel, unpacked.keys(head),
                                 unpacked.values(head));
               }
             });
}

template <class T>
void CachedAttention<T>::attend(const NewTokens& tokens, const Panels& cache) {
  attend_tiles<T>(kernels_, *tokens.shape, *tokens.q, cache.all(kernels_), *tokens.out);
}

template <class T>
void CachedAttention<T>::extend_by_one(const NewTokens& tokens, const Panels& cache) {
  const AttentionShape& shape = *tokens.shape;
  const Array& q = *tokens.q;
  const std::int64_t position = shape.past;
  const std::int64_t head_dim = shape.head_dim;
  const auto scratch_bytes = static_cast<std::size_t>(kernels_.attention_scratch(head_dim));
  const std::int64_t padded_length = round_up(cache.capacity, kernels_.panel);
  const std::int64_t heads_per_key = shape.heads / shape.kv_heads;
  // A task is a head of keys with all heads of queries that read it.
  parallel_for(static_cast<std::size_t>(cache.heads), [&](std::size_t index) {
    const auto head = static_cast<std::int64_t>(index);
    const NewHead<T> from(tokens, head);
    t_tile.reserve(scratch_bytes);
    kernels_.append(tokens.k_transform, from.k, from.v, position, cache.capacity, t_tile.data(),
                    cache.keys(head), cache.values(head));
    for (std::int64_t i = 0; i < heads_per_key; ++i) {
      const std::int64_t query_head = head % shape.kv_heads * heads_per_key + i;
      const std::int64_t query = (head * heads_per_key + i) * head_dim;
      kernels_.attend_one({.q = working<T>(q) + query,
                           .q_pitch = q.cols(),
                           .out = working<T>(*tokens.out) + query,
                           .out_pitch = tokens.out->cols(),
                           .past = position,
                           .first = position,
                           .count = 1,
                           .sliding_window = shape.sliding_window,
                           .softcap = base2_softcap(shape),
                           .sink = sink_of(shape, query_head),
                           .transform = tokens.q_transform,
                           .head = {cache.keys(head), cache.values(head), padded_length},
                           .scratch = t_tile.data()});
    }
  });
}

template <class T>
void CachedAttention<T>::extend_by_one(const NewTokens& tokens, std::int64_t number, Compact& cache) {
  const AttentionShape& shape = *tokens.shape;
  const CacheKernels& code = cache.kernels;
  const std::int64_t position = shape.past + number;
  const std::int64_t head_dim = shape.head_dim;
  const std::int64_t queries = shape.heads / shape.kv_heads;
  const HeadTransform as_it_is{.head_dim = head_dim};

  const std::int64_t first_seen =
      shape.sliding_window == 0 ? 0 : std::max<std::int64_t>(0, position - shape.sliding_window + 1);
  const std::int64_t first_piece = first_seen / kCachePiece;
  const std::int64_t last_piece = position / kCachePiece;
  const std::int64_t pieces = last_piece - first_piece + 1;

  const std::int64_t partial_size = code.partial_size(queries, head_dim);
  if (pieces > 1) {
    partials_.reserve(static_cast<std::size_t>(cache.heads * pieces * partial_size) * sizeof(float));
    if (finished_size_ < cache.heads) {
      finished_ = std::make_unique<std::atomic<std::int64_t>[]>(static_cast<std::size_t>(cache.heads));
      finished_size_ = cache.heads;
    }
    for (std::int64_t i = 0; i < cache.heads; ++i) finished_[static_cast<std::size_t>(i)] = 0;
  }
  float* const partials = reinterpret_cast<float*>(partials_.data());

  const std::int64_t q_size = queries * head_dim;
  const std::int64_t scratch_bytes =
      2 * Scratch::size(q_size, sizeof(float)) + 2 * Scratch::size(head_dim, sizeof(float)) +
      Scratch::size(queries * kCachePiece, sizeof(float)) + Scratch::size(partial_size, sizeof(float));
  parallel_for(static_cast<std::size_t>(cache.heads * pieces), [&](std::size_t index) {
    const std::int64_t head = static_cast<std::int64_t>(index) / pieces;
    const std::int64_t piece = first_piece + static_cast<std::int64_t>(index) % pieces;
    Scratch scratch(scratch_bytes);
    float* const q = scratch.take<float>(q_size);
    float* const result = scratch.take<float>(q_size);
    float* const key = scratch.take<float>(head_dim);
    float* const value = scratch.take<float>(head_dim);
    float* const scores = scratch.take<float>(queries * kCachePiece);
    float* const single = scratch.take<float>(partial_size);

    if (piece == last_piece) {
      const NewHead<T> from(tokens, head);
      kernels_.transform(tokens.k_transform, from.k + number * tokens.k->cols(), position, key);
      kernels_.transform(as_it_is, from.v + number * tokens.v->cols(), 0, value);
      code.put(key, value, head_dim, position, cache.keys(head), cache.values(head));
    }
    // Every piece does this again: it takes a hundredth of the piece's time and saves a loop over threads.
    const std::int64_t row = head / shape.kv_heads * shape.length + number;
    const std::int64_t start = row * shape.heads * head_dim + head % shape.kv_heads * q_size;
    for (std::int64_t i = 0; i < queries; ++i)
      kernels_.transform(tokens.q_transform, working<T>(*tokens.q) + start + i * head_dim, position,
                         q + i * head_dim);
    float* const of_head = pieces == 1 ? single : partials + head * pieces * partial_size;
    code.attend({.q = q,
                 .queries = queries,
                 .head_dim = head_dim,
                 .keys = cache.keys(head),
                 .values = cache.values(head),
                 .begin = std::max(first_seen, piece * kCachePiece),
                 .end = std::min((piece + 1) * kCachePiece, position + 1),
                 .softcap = base2_softcap(shape),
                 .scores = scores,
                 .partial = of_head + (piece - first_piece) * partial_size});
    // Whoever is the last of a head combines its pieces.
    if (pieces > 1 &&
        finished_[static_cast<std::size_t>(head)].fetch_add(1, std::memory_order_acq_rel) + 1 < pieces)
      return;
    code.combine(of_head, pieces, queries, head_dim, sink_of(shape, head % shape.kv_heads * queries), result);
    kernels_.convert(result, q_size, working<T>(*tokens.out) + start);
  });
}

template class CachedAttention<float>;
template class CachedAttention<Bf16>;

}  // namespace knapsaq::cpu
