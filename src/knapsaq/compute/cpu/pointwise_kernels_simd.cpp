// The kernels of what is done number by number between products.

#include "knapsaq/compute/cpu/activations_simd.h"
#include "knapsaq/compute/cpu/pointwise_kernels.h"
#include "knapsaq/compute/cpu/vector_math_simd.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

template <class T>
void scale_row(T* values, std::int64_t n, float factor) {
  const Vec by = splat(factor);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(values + i, load_lanes(values + i, lanes) * by, lanes);
  });
}

void add_scaled_row(const float* x, std::int64_t n, float factor, float* sum) {
  const Vec by = splat(factor);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(sum + i, fma(by, load_lanes(x + i, lanes), load_lanes(sum + i, lanes)), lanes);
  });
}

/// A number of either type in all lanes.
template <class T>
Vec all_lanes(const T* p) {
  float lanes[kLanes];
  store(lanes, load_part(p, 1));
  return splat(lanes[0]);
}

template <class T>
void gate_row(const T* gate, std::int64_t n, T* values) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(values + i, load_lanes(values + i, lanes) * sigmoid(load_lanes(gate + i, lanes)), lanes);
  });
}

template <class T>
void gate_by_one_row(const T* gate, std::int64_t n, T* values) {
  const Vec open = sigmoid(all_lanes(gate));
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(values + i, load_lanes(values + i, lanes) * open, lanes);
  });
}

template <class T>
void gate_backward_row(const T* gate, const T* values, std::int64_t n, T* gradient, T* of_gate) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec s = sigmoid(load_lanes(gate + i, lanes));
    const Vec g = load_lanes(gradient + i, lanes);
    const Vec slope = s * (splat(1.0f) - s);
    store_lanes(of_gate + i, g * load_lanes(values + i, lanes) * slope, lanes);
    store_lanes(gradient + i, g * s, lanes);
  });
}

template <class T>
void gate_by_one_backward_row(const T* gate, const T* values, std::int64_t n, T* gradient, T* of_gate) {
  const Vec s = sigmoid(all_lanes(gate));
  Vec sum = splat(0.0f);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec g = load_lanes(gradient + i, lanes);
    sum = fma(g, load_lanes(values + i, lanes), sum);
    store_lanes(gradient + i, g * s, lanes);
  });
  store_part(of_gate, splat(sum_of(sum)) * s * (splat(1.0f) - s), 1);
}

void softcap_slopes_row(const float* capped, std::int64_t n, float cap, float* slopes) {
  const Vec by = splat(cap);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec t = load_lanes(capped + i, lanes) / by;
    store_lanes(slopes + i, splat(1.0f) - t * t, lanes);
  });
}

void multiply_row(const float* factors, std::int64_t n, float* values) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(values + i, load_lanes(values + i, lanes) * load_lanes(factors + i, lanes), lanes);
  });
}

template <class T>
constexpr PointwiseKernels<T> make_kernels() {
  return {.scale_full = scale_row<float>,
          .scale_working = scale_row<T>,
          .add_scaled = add_scaled_row,
          .gate = gate_row<T>,
          .gate_by_one = gate_by_one_row<T>,
          .gate_backward = gate_backward_row<T>,
          .gate_by_one_backward = gate_by_one_backward_row<T>,
          .softcap = soft_cap,
          .softcap_slopes = softcap_slopes_row,
          .multiply = multiply_row};
}

}  // namespace

extern const PointwiseKernels<float> kFloatPointwise;
const PointwiseKernels<float> kFloatPointwise = make_kernels<float>();
#ifdef KNAPSAQ_SIMD_BF16
extern const PointwiseKernels<Bf16> kBf16Pointwise;
const PointwiseKernels<Bf16> kBf16Pointwise = make_kernels<Bf16>();
#endif

}  // namespace knapsaq::cpu::KNAPSAQ_SET
