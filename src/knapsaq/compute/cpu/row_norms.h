#pragma once

#include <cstdint>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// Norms of an attention that are taken before heads are looked at one by one: of all heads of q or k
/// together, and of v. T is what matrix products read.
template <class T>
class RowNorms {
 public:
  explicit RowNorms(const Kernels<T>& kernels) : kernels_(kernels) {}

  /// What is attended to: an attention without these norms, and its inputs. Where there are no such norms,
  /// they are those of the call, else they are in this object's memory.
  struct Inputs {
    AttentionShape shape;
    Array q, k, v;
  };
  Inputs apply(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k,
               const Array& v);
  /// Back through apply(), whose arguments are given: turns gradients by its result into those by q, k and v,
  /// in place, and adds to the sums of the norms.
  void back(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k, const Array& v,
            AttentionGradient& gradient) const;

 private:
  Array normed(const Array& x, std::int64_t rows, const Array* norm, std::int64_t width, float eps,
               AlignedBytes& memory) const;

  const Kernels<T>& kernels_;
  AlignedBytes q_, k_, v_;
};

extern template class RowNorms<float>;
extern template class RowNorms<Bf16>;

}  // namespace knapsaq::cpu
