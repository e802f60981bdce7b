#pragma once

#include <cstdint>
#include <span>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/product.h"

namespace knapsaq::cpu {

/// The backward pass of the CPU backend: Backend's functions of the same names. T is what matrix products
/// read.
template <class T>
class Gradients {
 public:
  /// `columns`: products along rows, whose layouts are chosen for other tiles. All of them outlive this.
  Gradients(const Kernels<T>& kernels, Products& products, Products& columns)
      : kernels_(kernels), products_(products), columns_(columns) {}

  void add_product_of_columns(const Array& a, const Array& b, std::int64_t rows, Array& sum);
  void add_column_sums(const Array& in, std::int64_t rows, std::span<double> abs, std::span<double> squares);
  void norm_backward(const Array& in, const NormWeights& weights, std::int64_t rows, const Array& gradient,
                     Array& sum, NormGradient* of_weights);
  void activate_backward(const Array* gate, const Array& up, std::int64_t rows, Activation activation,
                         const Array& gradient, Array& out, Array* of_gate, Array& of_up);
  void loss_gradient(const Array& in, const OutputHead& head, const LossTargets& targets,
                     std::span<float> losses, Array& out);

 private:
  const Kernels<T>& kernels_;
  Products& products_;
  Products& columns_;
};

extern template class Gradients<float>;
extern template class Gradients<Bf16>;

}  // namespace knapsaq::cpu
