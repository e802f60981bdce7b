// The kernels of a decoder's backward pass.

#include "knapsaq/compute/cpu/activations_simd.h"
#include "knapsaq/compute/cpu/gradient_kernels.h"
#include "knapsaq/compute/cpu/vector_math_simd.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

/// Sums of a row; several chains hide the latency of the additions.
struct RowSum {
  Vec parts[4] = {splat(0), splat(0), splat(0), splat(0)};
  Vec& at(std::int64_t i) { return parts[(i / kLanes) % 4]; }
  float total() const { return sum_of((parts[0] + parts[1]) + (parts[2] + parts[3])); }
};

/// With y = (x - mean) / deviation and g = gradient * scale, the gradient by x is
///   (g - mean(g) - y mean(g y)) / deviation;
/// the RMS norm has no means of x and g.
void norm_row(Norm kind, const float* x, const float* scale, float eps, std::int64_t n, const float* gradient,
              float* sum, float* of_scale, float* of_shift) {
  const float share = 1.0f / static_cast<float>(n);
  float mean = 0;
  if (kind == Norm::layer) {
    RowSum all;
    for_vectors(n, [&](std::int64_t i, int lanes) { all.at(i) = all.at(i) + load_lanes(x + i, lanes); });
    mean = all.total() * share;
  }
  const Vec center = splat(mean);
  const auto scaled_gradient = [&](std::int64_t i, int lanes) {
    const Vec g = load_lanes(gradient + i, lanes);
    return scale == nullptr ? g : g * load_lanes(scale + i, lanes);
  };
  RowSum squares, gradients, products;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    // Lanes behind the row must not count as (0 - mean)^2.
    const Vec d = (lanes == kLanes ? load(x + i) : load_part(x + i, lanes, mean)) - center;
    const Vec g = scaled_gradient(i, lanes);
    squares.at(i) = fma(d, d, squares.at(i));
    gradients.at(i) = gradients.at(i) + g;
    products.at(i) = fma(g, d, products.at(i));
  });
  const Vec inverse = splat(1.0f) / vsqrt(splat(squares.total() * share + eps));
  const Vec of_mean = splat(kind == Norm::layer ? gradients.total() * share : 0.0f);
  const Vec of_deviation = splat(products.total() * share) * inverse * inverse;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec d = load_lanes(x + i, lanes) - center;
    const Vec change = (scaled_gradient(i, lanes) - of_mean - d * of_deviation) * inverse;
    store_lanes(sum + i, load_lanes(sum + i, lanes) + change, lanes);
    const Vec g = load_lanes(gradient + i, lanes);
    if (of_scale != nullptr)
      store_lanes(of_scale + i, fma(g, d * inverse, load_lanes(of_scale + i, lanes)), lanes);
    if (of_shift != nullptr) store_lanes(of_shift + i, load_lanes(of_shift + i, lanes) + g, lanes);
  });
}

template <Activation kActivation, class T>
void activate_row_as(const T* gate, const T* up, const T* gradient, std::int64_t n, T* out, T* of_gate,
                     T* of_up) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec g = load_lanes(gradient + i, lanes);
    const Vec u = load_lanes(up + i, lanes);
    if (gate == nullptr) {
      store_lanes(out + i, apply_activation(kActivation, u), lanes);
      store_lanes(of_up + i, g * activation_slope(kActivation, u), lanes);
      return;
    }
    const Vec x = load_lanes(gate + i, lanes);
    const Vec active = apply_activation(kActivation, x);
    store_lanes(out + i, active * u, lanes);
    store_lanes(of_gate + i, g * u * activation_slope(kActivation, x), lanes);
    store_lanes(of_up + i, g * active, lanes);
  });
}

template <class T>
void activate_row(Activation activation, const T* gate, const T* up, const T* gradient, std::int64_t n,
                  T* out, T* of_gate, T* of_up) {
  switch (activation) {
    case Activation::silu:
      return activate_row_as<Activation::silu>(gate, up, gradient, n, out, of_gate, of_up);
    case Activation::relu:
      return activate_row_as<Activation::relu>(gate, up, gradient, n, out, of_gate, of_up);
    case Activation::gelu:
      return activate_row_as<Activation::gelu>(gate, up, gradient, n, out, of_gate, of_up);
    case Activation::gelu_tanh:
      return activate_row_as<Activation::gelu_tanh>(gate, up, gradient, n, out, of_gate, of_up);
    case Activation::clamped_swiglu:
      return for_vectors(n, [&](std::int64_t i, int lanes) {
        const GatedGradient all = clamped_swiglu_gradient(
            load_lanes(gate + i, lanes), load_lanes(up + i, lanes), load_lanes(gradient + i, lanes));
        store_lanes(out + i, all.value, lanes);
        store_lanes(of_gate + i, all.by_gate, lanes);
        store_lanes(of_up + i, all.by_up, lanes);
      });
  }
}

template <class T>
void probabilities_row(float* scores, std::int64_t n, float log_sum, T* rounded) {
  const Vec shift = splat(log_sum);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    // exp(-100) is nothing beside a probability; what is masked would leave the range of fp32.
    const Vec p = exp_precise(vmax(splat(-100.0f), load_lanes(scores + i, lanes) - shift));
    store_lanes(scores + i, p, lanes);
    store_lanes(rounded + i, p, lanes);
  });
}

float dot_row(const float* a, const float* b, std::int64_t n) {
  RowSum sum;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    sum.at(i) = fma(load_lanes(a + i, lanes), load_lanes(b + i, lanes), sum.at(i));
  });
  return sum.total();
}

template <class T>
void softmax_row(const float* p, const float* gradient, std::int64_t n, float mean, float factor, T* out) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec change = (load_lanes(gradient + i, lanes) - splat(mean)) * splat(factor);
    store_lanes(out + i, load_lanes(p + i, lanes) * change, lanes);
  });
}

template <class T>
void difference_row(const float* a, const float* b, std::int64_t n, T* out) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec x = load_lanes(a + i, lanes);
    store_lanes(out + i, b == nullptr ? x : x - load_lanes(b + i, lanes), lanes);
  });
}

template <class T>
void add_sums_row(const T* x, std::int64_t n, float* abs, float* squares) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec v = load_lanes(x + i, lanes);
    store_lanes(abs + i, load_lanes(abs + i, lanes) + vmax(v, splat(0.0f) - v), lanes);
    store_lanes(squares + i, fma(v, v, load_lanes(squares + i, lanes)), lanes);
  });
}

template <class T>
constexpr GradientKernels<T> make_kernels() {
  return {.norm = norm_row,
          .activate = activate_row<T>,
          .probabilities = probabilities_row<T>,
          .dot = dot_row,
          .softmax = softmax_row<T>,
          .difference = difference_row<T>,
          .add_sums = add_sums_row<T>};
}

}  // namespace

extern const GradientKernels<float> kFloatGradients;
const GradientKernels<float> kFloatGradients = make_kernels<float>();
#ifdef KNAPSAQ_SIMD_BF16
extern const GradientKernels<Bf16> kBf16Gradients;
const GradientKernels<Bf16> kBf16Gradients = make_kernels<Bf16>();
#endif

}  // namespace knapsaq::cpu::KNAPSAQ_SET
