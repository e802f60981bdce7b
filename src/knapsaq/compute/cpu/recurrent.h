#pragma once

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// The recurrent layers of the CPU backend: Backend's functions of the same names. T is what matrix products
/// read.
template <class T>
class Recurrent {
 public:
  explicit Recurrent(const Kernels<T>& kernels) : kernels_(*kernels.delta) {}

  std::unique_ptr<RecurrentState> make_state(const RecurrentShape& shape) const;

  void short_convolution(const RowSequences& sequences, const ShortConvolution& convolution, const Array& in,
                         Array& out) const;
  void short_convolution_backward(const RowSequences& sequences, const ShortConvolution& convolution,
                                  const Array& in, const Array& gradient, Array& of_in) const;

  void gated_delta_rule(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                        const Array& a, const Array& b, Array& out);
  void gated_delta_rule_backward(const RowSequences& sequences, const DeltaShape& shape, const Array& qkv,
                                 const Array& a, const Array& b, const Array& gradient, DeltaGradient& out);

  void gated_norm(const Array& in, const Array& gate, const NormWeights& weights, std::int64_t rows,
                  Array& out) const;
  void gated_norm_backward(const Array& in, const Array& gate, const NormWeights& weights, std::int64_t rows,
                           const Array& gradient, Array& of_in, Array& of_gate,
                           NormGradient* of_weights) const;

 private:
  /// What the rule reads of every row, in fp32, with places for the gradients by it.
  struct Prepared {
    float* q;       ///< [rows, key_heads * key_dim], normed and scaled
    float* k;       ///< the same, normed
    float* dots;    ///< [rows, key_heads]: q . k
    float* decays;  ///< [rows, value_heads]: exp(g)
    float* betas;   ///< [rows, value_heads]
  };
  /// Of the first `rows` rows, in memory that the next call takes again.
  Prepared prepare(const DeltaShape& shape, std::int64_t rows, const Array& qkv, const Array& a,
                   const Array& b);

  const DeltaKernels<T>& kernels_;
  AlignedBytes prepared_;
  AlignedBytes gradients_;
};

/// Throws std::invalid_argument for arrays that are not `rows` rows of this shape.
void check_delta(const DeltaShape& shape, std::int64_t rows, const Array& qkv, const Array& a, const Array& b,
                 const Array& out);

extern template class Recurrent<float>;
extern template class Recurrent<Bf16>;

}  // namespace knapsaq::cpu
