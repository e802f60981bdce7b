#pragma once

#include <memory>
#include <span>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/cached_attention.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/row_norms.h"

namespace knapsaq::cpu {

/// The attention of the CPU backend: Backend's functions of the same names. T is what matrix products read.
template <class T>
class Attention {
 public:
  explicit Attention(const Kernels<T>& kernels) : kernels_(kernels), row_norms_(kernels), cached_(kernels) {}

  void attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v, Array& out);
  void attend(const AttentionShape& shape, std::span<const Segment> segments, const Array& q, const Array& k,
              const Array& v, Array& out);
  std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape, CacheElement element);
  void extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
              AttentionCache& cache, Array& out);

 private:
  /// attend() of windows after the norms of rows.
  void attend_windows(const typename RowNorms<T>::Inputs& in, Array& out);

  const Kernels<T>& kernels_;
  RowNorms<T> row_norms_;
  CachedAttention<T> cached_;
  AlignedBytes packed_keys_;
  AlignedBytes packed_values_;
};

extern template class Attention<float>;
extern template class Attention<Bf16>;

}  // namespace knapsaq::cpu
