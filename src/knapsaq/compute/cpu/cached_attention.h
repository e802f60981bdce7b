#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// New tokens of some sequences: what Backend::extend() is called with, once its shapes have been checked.
struct NewTokens {
  const AttentionShape* shape;
  HeadTransform q_transform;
  HeadTransform k_transform;
  const Array* q;
  const Array* k;
  const Array* v;
  Array* out;
};

/// Attention that looks back at a cache: Backend::make_cache() and extend(). T is what matrix products read.
///
/// A `working` cache holds keys and values in the panels of Kernels::append(), which every kernel reads as
/// they are. A half or int8 cache (CacheKernels) is read as it is for one new token or a few, in pieces of
/// kCachePiece tokens that all threads share and whose results are combined in the order of the pieces; for
/// more tokens it is unpacked into such panels first, one attention at a time.
template <class T>
class CachedAttention {
 public:
  explicit CachedAttention(const Kernels<T>& kernels) : kernels_(kernels) {}

  std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape, CacheElement element) const;
  /// Keys and values of the new tokens to the cache; attends for none. Throws std::invalid_argument for a
  /// cache of another shape, as extend().
  void append(const NewTokens& tokens, AttentionCache& cache);
  void extend(const NewTokens& tokens, AttentionCache& cache);

 private:
  class Panels;
  class Packed;
  class Compact;

  void append(const NewTokens& tokens, const Panels& cache);
  void append(const NewTokens& tokens, Compact& cache);
  void extend_by_one(const NewTokens& tokens, const Panels& cache);
  /// New token `number` of every sequence.
  void extend_by_one(const NewTokens& tokens, std::int64_t number, Compact& cache);
  /// Keys and values of the tokens before, from the cache, and of the new ones.
  void unpack(const NewTokens& tokens, Compact& cache, const Panels& unpacked);
  /// All queries of the new tokens, when `cache` holds all tokens.
  void attend(const NewTokens& tokens, const Panels& cache);

  const Kernels<T>& kernels_;
  AlignedBytes unpacked_keys_;
  AlignedBytes unpacked_values_;
  AlignedBytes partials_;                                  ///< results of pieces
  std::unique_ptr<std::atomic<std::int64_t>[]> finished_;  ///< pieces of every head
  std::int64_t finished_size_ = 0;
};

extern template class CachedAttention<float>;
extern template class CachedAttention<Bf16>;

}  // namespace knapsaq::cpu
