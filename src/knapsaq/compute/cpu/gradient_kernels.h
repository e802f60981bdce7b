#pragma once

#include <cstdint>

#include "knapsaq/compute/functions.h"

namespace knapsaq::cpu {

/// The backward pass of one row, in the code of one instruction set. T is what matrix products read.
template <class T>
struct GradientKernels {
  /// sum += the gradient by x of norm(x), given `gradient`, the one by its result. of_scale and of_shift get
  /// the row's share added; of_scale, of_shift and scale may be null.
  void (*norm)(Norm kind, const float* x, const float* scale, float eps, std::int64_t n,
               const float* gradient, float* sum, float* of_scale, float* of_shift);
  /// out = act(gate) * up, and the gradients by gate and up; without a gate act(up) and the one by up.
  void (*activate)(Activation activation, const T* gate, const T* up, const T* gradient, std::int64_t n,
                   T* out, T* of_gate, T* of_up);
  /// scores = exp(scores - log_sum), and the same rounded.
  void (*probabilities)(float* scores, std::int64_t n, float log_sum, T* rounded);
  /// sum of a b.
  float (*dot)(const float* a, const float* b, std::int64_t n);
  /// p (gradient - mean) factor: through a softmax, with mean = sum of p * gradient over the whole row.
  void (*softmax)(const float* p, const float* gradient, std::int64_t n, float mean, float factor, T* out);
  /// out = a - b, or a if b is null.
  void (*difference)(const float* a, const float* b, std::int64_t n, T* out);
  /// sums += |x| and x^2.
  void (*add_sums)(const T* x, std::int64_t n, float* abs, float* squares);
};

}  // namespace knapsaq::cpu
