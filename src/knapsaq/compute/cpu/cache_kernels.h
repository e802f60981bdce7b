#pragma once

#include <cstddef>
#include <cstdint>

#include "knapsaq/base/float16.h"

namespace knapsaq::cpu {

/// Tokens of a panel of a half or int8 cache.
inline constexpr std::int64_t kCachePanel = 16;
/// Tokens of a piece: what one task of attention reads. Scores of eight query heads take 8 KiB, which stay in
/// the L1 cache; a piece of 64 dimensions takes some microseconds, many times what handing it out costs.
inline constexpr std::int64_t kCachePiece = 256;

/// Some tokens of one key head, and all query heads that read it.
struct CachePiece {
  const float* q = nullptr;  ///< [queries, head_dim], times the attention's scale * log2(e)
  std::int64_t queries = 0;
  std::int64_t head_dim = 0;
  const std::byte* keys = nullptr;  ///< of the head's first token
  const std::byte* values = nullptr;
  std::int64_t begin = 0;    ///< tokens [begin, end) are seen; no others of their values are touched
  std::int64_t end = 0;      ///< at most kCachePiece behind begin's panel
  float softcap = 0;         ///< times log2(e); 0: none
  float* scores = nullptr;   ///< scratch: [queries, kCachePiece]
  float* partial = nullptr;  ///< the result, CacheKernels::partial_size() floats, for combine()
};

/// The code of one instruction set for a cache of one element. Keys lie in panels of kCachePanel tokens,
/// dimension-major, so that a vector holds one dimension of many keys and scores need no sums across lanes;
/// values lie token-major, so that a vector holds many dimensions of a value. In int8 a panel begins with its
/// tokens' scales.
///
///     keys    [panels]([kCachePanel] float scales, int8 only)[head_dim][kCachePanel]
///     values  [panels]([kCachePanel] float scales, int8 only)[kCachePanel][head_dim rounded up to 16]
///
/// What lies behind the last token may be anything.
struct CacheKernels {
  std::int64_t (*key_panel)(std::int64_t head_dim);    ///< bytes
  std::int64_t (*value_panel)(std::int64_t head_dim);  ///< bytes
  /// The key (normed and rotated) and the value of one head of a token to their place. Numbers beyond the
  /// range of fp16 become the largest ones; int8 is scaled by the largest of the head. NaN stays.
  void (*put)(const float* key, const float* value, std::int64_t head_dim, std::int64_t position,
              std::byte* keys, std::byte* values);
  /// Keys and values of a panel as floats, [kCachePanel, head_dim] each.
  void (*take)(const std::byte* key_panel, const std::byte* value_panel, std::int64_t head_dim, float* keys,
               float* values);
  /// Floats of a result of attend(); a multiple of a cache line.
  std::int64_t (*partial_size)(std::int64_t queries, std::int64_t head_dim);
  void (*attend)(const CachePiece& piece);
  /// out [queries, head_dim] from the partial results of all pieces, one behind another, which are lost.
  /// sinks: a logit of no token for each query, or null.
  void (*combine)(float* partials, std::int64_t pieces, std::int64_t queries, std::int64_t head_dim,
                  const float* sinks, float* out);
};

}  // namespace knapsaq::cpu
