#pragma once

#include <cstdint>

#include "knapsaq/base/float16.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/cache_kernels.h"
#include "knapsaq/compute/cpu/delta_kernels.h"
#include "knapsaq/compute/cpu/gradient_kernels.h"
#include "knapsaq/compute/cpu/pointwise_kernels.h"

namespace knapsaq::cpu {

/// Rotation tables of one window: row p holds the cosines (sines) of position p, for the pairs (i, i +
/// pairs).
struct Rotation {
  const float* cosines = nullptr;  ///< null: no rotation
  const float* sines = nullptr;
  std::int64_t pairs = 0;
};

/// What happens to one head of q or k before scores are computed: RMS norm (if norm is not null), rotation, a
/// factor.
struct HeadTransform {
  std::int64_t head_dim = 0;
  const float* norm = nullptr;
  float norm_eps = 0;
  Rotation rotation = {};
  float factor = 1;
  const float* scales = nullptr;  ///< another factor for every position; null: none
};

/// Keys and values of one head, laid out for the score and value products by pack_keys() and pack_values().
/// `keys` is `length` rounded up to whole panels. A panel of `panel` keys is stored dimension-major, so that
/// one vector load gives one dimension (a pair of dimensions, for bf16) of a vector of keys.
template <class T>
struct PackedHead {
  const T* keys = nullptr;    ///< [panels][head_dim / pair][panel][pair]
  const T* values = nullptr;  ///< [head_dim panels][keys / pair][width of the panel][pair]
  std::int64_t padded_length = 0;
};

/// One tile of queries of one head. Scores are logarithms to the base 2: the factor of `transform` is the
/// attention's scale * log2(e).
template <class T>
struct AttentionTile {
  const T* q = nullptr;  ///< this head of the window's first token
  std::int64_t q_pitch = 0;
  T* out = nullptr;  ///< same place in the output
  std::int64_t out_pitch = 0;
  std::int64_t past = 0;   ///< tokens of the window that come before those of q
  std::int64_t first = 0;  ///< position of the tile's first query, at least `past`
  std::int64_t count = 0;  ///< queries, at most Kernels::query_tile
  std::int64_t sliding_window = 0;
  float softcap = 0;            ///< times log2(e); 0: none
  const float* sink = nullptr;  ///< a logit of no token; null: none
  HeadTransform transform;
  PackedHead<T> head;
  std::byte* scratch = nullptr;  ///< Kernels::attention_scratch() bytes, aligned to 64
};

/// Largest logit and sum of exp(logit - largest) of one row.
struct SoftmaxStatistics {
  float largest;
  float sum;
};

/// Parts of KL(p || q) and of the Jensen-Shannon divergence that some columns of a row contribute.
struct DivergencePair {
  float kl;
  float jsd;
};

/// Columns of a panel of what DenseProduct multiplies by: sixteen rows of W side by side, which follow each
/// other for every one of its columns, whose number is rounded up to a multiple of sixteen.
inline constexpr std::int64_t kDensePanel = 16;

/// out [rows, cols] = in [rows, depth] W^T + bias, in fp32; W [cols, depth] in panels, bias may be null.
/// Every number is one chain of multiply-adds along `depth`, whatever the number of rows and its own row's
/// place.
using DenseProduct = void (*)(const float* in, std::int64_t rows, std::int64_t depth, const float* panels,
                              std::int64_t cols, const float* bias, float* out);

/// The code of one instruction set. T is what matrix products read: float or Bf16.
template <class T>
struct Kernels {
  const char* name;

  /// out = norm(x) of one row of n; scale and shift may be null.
  void (*norm_full)(Norm kind, const float* x, const float* scale, const float* shift, float eps,
                    std::int64_t n, float* out);
  void (*norm_working)(Norm kind, const float* x, const float* scale, const float* shift, float eps,
                       std::int64_t n, T* out);
  void (*convert)(const float* x, std::int64_t n, T* out);
  void (*add)(const float* x, std::int64_t n, float* sum);
  /// out = act(gate) * up, or act(up) if gate is null.
  void (*activate)(Activation activation, const T* gate, const T* up, std::int64_t n, T* out);
  DenseProduct multiply;  ///< null: the library's product is faster and sums every row alike
  SoftmaxStatistics (*softmax_statistics)(const float* logits, std::int64_t n);

  /// logits -= log_sum, in place; probabilities = exp() of that.
  void (*log_probabilities)(float* logits, std::int64_t n, float log_sum, float* probabilities);
  /// What n columns of a row contribute to the divergences of q = exp(logits - log_sum) from p: KL(p || q)
  /// alone, or both.
  float (*divergence)(const float* log_p, const float* p, const float* logits, std::int64_t n, float log_sum);
  DivergencePair (*both_divergences)(const float* log_p, const float* p, const float* logits, std::int64_t n,
                                     float log_sum);

  std::int64_t panel;       ///< keys per panel
  std::int64_t query_tile;  ///< queries per AttentionTile
  /// Elements of the packed keys (values) of one head for windows of `length`.
  std::int64_t (*packed_keys_size)(std::int64_t length, std::int64_t head_dim);
  std::int64_t (*packed_values_size)(std::int64_t length, std::int64_t head_dim);
  /// Fill panel number `index` (keys index * panel ..) from k, v: this head of the window's first token.
  void (*pack_keys)(const HeadTransform& transform, const T* k, std::int64_t pitch, std::int64_t length,
                    std::int64_t index, std::byte* scratch, T* out);
  void (*pack_values)(std::int64_t head_dim, const T* v, std::int64_t pitch, std::int64_t length,
                      std::int64_t index, T* out);
  std::int64_t (*attention_scratch)(std::int64_t head_dim);
  /// Put the key and the value of one token (one head of it) where pack_keys() and pack_values() of a window
  /// of `capacity` would; both start as zeros.
  void (*append)(const HeadTransform& transform, const T* k, const T* v, std::int64_t position,
                 std::int64_t capacity, std::byte* scratch, T* keys, T* values);
  void (*attend)(const AttentionTile<T>& tile);
  void (*attend_one)(const AttentionTile<T>& tile);  ///< the same for a tile of one query

  /// One head of the token at `position` as floats, transformed.
  void (*transform)(const HeadTransform& transform, const T* x, std::int64_t position, float* out);
  const CacheKernels* half_cache;
  const CacheKernels* int8_cache;
  const GradientKernels<T>* gradients;
  const PointwiseKernels<T>* pointwise;
  const DeltaKernels<T>* delta;
};

}  // namespace knapsaq::cpu
