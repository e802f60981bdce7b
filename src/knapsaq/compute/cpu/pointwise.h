#pragma once

#include <cstdint>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// What the CPU backend does number by number between products: Backend's functions of the same names. T is
/// what matrix products read.
template <class T>
class Pointwise {
 public:
  /// `kernels` outlives this.
  explicit Pointwise(const PointwiseKernels<T>& kernels) : kernels_(kernels) {}

  void scale(Array& values, std::int64_t rows, float factor) const;
  void add(const Array& in, std::int64_t rows, float factor, Array& sum) const;
  void gate(const Array& gate, std::int64_t rows, Array& values) const;
  void gate_backward(const Array& gate, const Array& values, std::int64_t rows, Array& gradient,
                     Array& of_gate) const;
  void softcap(Array& logits, std::int64_t rows, float cap) const;

 private:
  const PointwiseKernels<T>& kernels_;
};

extern template class Pointwise<float>;
extern template class Pointwise<Bf16>;

}  // namespace knapsaq::cpu
