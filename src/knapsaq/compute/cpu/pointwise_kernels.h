#pragma once

#include <cstdint>

namespace knapsaq::cpu {

/// What is done number by number between products, in the code of one instruction set. T is what matrix
/// products read; n numbers each.
template <class T>
struct PointwiseKernels {
  void (*scale_full)(float* values, std::int64_t n, float factor);
  void (*scale_working)(T* values, std::int64_t n, float factor);
  /// sum += factor * x.
  void (*add_scaled)(const float* x, std::int64_t n, float factor, float* sum);
  /// values *= sigmoid(gate).
  void (*gate)(const T* gate, std::int64_t n, T* values);
  /// The same with one gate for all.
  void (*gate_by_one)(const T* gate, std::int64_t n, T* values);
  /// Gradient by the product -> that by the values, and the one by the gate, which may lie where the gate
  /// does.
  void (*gate_backward)(const T* gate, const T* values, std::int64_t n, T* gradient, T* of_gate);
  void (*gate_by_one_backward)(const T* gate, const T* values, std::int64_t n, T* gradient, T* of_gate);
  /// logits = cap tanh(logits / cap).
  void (*softcap)(float* logits, std::int64_t n, float cap);
  /// The derivative of that by what was capped, from its result: slopes = 1 - (capped / cap)^2.
  void (*softcap_slopes)(const float* capped, std::int64_t n, float cap, float* slopes);
  /// values *= factors.
  void (*multiply)(const float* factors, std::int64_t n, float* values);
};

}  // namespace knapsaq::cpu
