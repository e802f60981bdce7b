#pragma once

#include <memory>
#include <span>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/cached_attention.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// The attention of the CPU backend: Backend's functions of the same names. T is what matrix products read.
template <class T>
class Attention {
 public:
  explicit Attention(const Kernels<T>& kernels) : kernels_(kernels), cached_(kernels) {}

  void attend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v, Array& out);
  void attend(const AttentionShape& shape, std::span<const Segment> segments, const Array& q, const Array& k,
              const Array& v, Array& out);
  std::unique_ptr<AttentionCache> make_cache(const AttentionShape& shape, CacheElement element);
  void extend(const AttentionShape& shape, const Array& q, const Array& k, const Array& v,
              AttentionCache& cache, Array& out);

 private:
  const Kernels<T>& kernels_;
  CachedAttention<T> cached_;
  AlignedBytes packed_keys_;
  AlignedBytes packed_values_;
};

extern template class Attention<float>;
extern template class Attention<Bf16>;

}  // namespace knapsaq::cpu
