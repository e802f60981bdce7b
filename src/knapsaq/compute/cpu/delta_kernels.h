#pragma once

#include <cstdint>

namespace knapsaq::cpu {

/// Tokens of one value head that follow each other, and a block of the columns of its state.
template <class T>
struct DeltaRun {
  // Of the first token; the next one's are a pitch further.
  const float* q = nullptr;      ///< [key_dim], normed and scaled
  const float* k = nullptr;      ///< [key_dim], normed
  const float* dot = nullptr;    ///< q . k
  const float* decay = nullptr;  ///< exp(g)
  const float* beta = nullptr;
  const T* v = nullptr;  ///< the block's columns
  T* out = nullptr;
  std::int64_t key_pitch = 0;  ///< of q and k
  std::int64_t dot_pitch = 0;
  std::int64_t head_pitch = 0;  ///< of decay and beta
  std::int64_t v_pitch = 0;
  std::int64_t out_pitch = 0;
  std::int64_t tokens = 0;
  std::int64_t key_dim = 0;
  std::int64_t cols = 0;   ///< of the block, at most DeltaKernels::block
  float* state = nullptr;  ///< [key_dim][DeltaKernels::block], before and after; 0 behind `cols`
};

/// Columns of a state that go backward together.
inline constexpr std::int64_t kDeltaColumns = 4;

/// Backward through kDeltaColumns columns of a state, the tokens of a window. What has a pitch is as in
/// DeltaRun. Columns whose v and gradient are 0 add nothing.
struct DeltaColumns {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* decay = nullptr;
  const float* beta = nullptr;
  const float* v = nullptr;         ///< [tokens][columns]
  const float* gradient = nullptr;  ///< [tokens][columns], by the result
  std::int64_t key_pitch = 0;
  std::int64_t head_pitch = 0;
  std::int64_t tokens = 0;
  std::int64_t key_dim = 0;
  float* states = nullptr;       ///< [tokens + 1][columns][key_dim]: memory
  float* of_state = nullptr;     ///< [columns][key_dim]: memory
  float* differences = nullptr;  ///< [tokens][columns]: memory
  float* of_v = nullptr;         ///< [tokens][columns]
  // Added to, with the pitches of what they are taken by.
  float* of_q = nullptr;
  float* of_k = nullptr;
  float* of_decay = nullptr;
  float* of_beta = nullptr;
};

/// The recurrent layers' code of one instruction set. T is what matrix products read.
template <class T>
struct DeltaKernels {
  std::int64_t block;  ///< columns of a state that lie side by side
  /// out = in, or in * factor where factor is not null: n inputs of a convolution.
  void (*load_inputs)(const T* in, const T* factor, std::int64_t n, float* out);
  /// One row of a convolution: inputs[j] is multiplied by kernel + j * pitch. The result, act(bias + sum),
  /// is multiplied by `factor` unless that is null.
  void (*convolve)(const float* const* inputs, std::int64_t taps, const float* kernel, std::int64_t pitch,
                   const float* bias, bool silu, const T* factor, std::int64_t n, T* out);
  /// Through one row of convolve(): the gradients by bias + sum, and by the factor unless that is null.
  void (*convolve_backward)(const float* const* inputs, std::int64_t taps, const float* kernel,
                            std::int64_t pitch, const float* bias, bool silu, const T* factor,
                            const T* gradient, std::int64_t n, float* of_sum, T* of_factor);
  /// sum over j of gradients[j] * (kernel + j * pitch), which is the gradient by an input; times `factor` and
  /// `other` the one by a product of two, if these are not null: of_other is then `other`'s.
  void (*gather_gradients)(const float* const* gradients, std::int64_t taps, const float* kernel,
                           std::int64_t pitch, const T* factor, const T* other, std::int64_t n, T* of_factor,
                           T* of_other);

  /// y = x factor / sqrt(sum of x^2 + eps) of one head.
  void (*normalize)(const T* x, std::int64_t n, float eps, float factor, float* y);
  /// The gradient by x, given the one by normalize()'s result.
  void (*normalize_backward)(const T* x, std::int64_t n, float eps, float factor, const float* gradient,
                             T* of_x);
  float (*dot)(const float* a, const float* b, std::int64_t n);
  void (*run)(const DeltaRun<T>& run);
  void (*run_backward)(const DeltaColumns& columns);

  /// out = x scale / sqrt(mean of x^2 + eps) * silu(gate) of one head; scale may be null.
  void (*gated_norm)(const T* x, const T* gate, const float* scale, float eps, std::int64_t n, T* out);
  /// Adds the head's share to of_scale unless that is null.
  void (*gated_norm_backward)(const T* x, const T* gate, const float* scale, float eps, std::int64_t n,
                              const T* gradient, T* of_x, T* of_gate, float* of_scale);
};

}  // namespace knapsaq::cpu
