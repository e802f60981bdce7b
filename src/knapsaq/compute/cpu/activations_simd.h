#pragma once

// Activation functions and their derivatives, by lane.

#include "knapsaq/compute/cpu/vector_math_simd.h"
#include "knapsaq/compute/functions.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

inline Vec sigmoid(Vec x) {
  // Beyond 80 the exponential would leave the range of fp32; the result is 0 or 1 long before.
  const Vec bounded = vmin(splat(80.0f), vmax(splat(-80.0f), x));
  return splat(1.0f) / (splat(1.0f) + exp_precise(splat(0.0f) - bounded));
}

/// erf(|x|) by Abramowitz and Stegun 7.1.26: absolute error 1.5e-7.
inline Vec erf_of_magnitude(Vec x) {
  const Vec t = splat(1.0f) / fma(splat(0.3275911f), x, splat(1.0f));
  Vec p = splat(1.061405429f);
  p = fma(p, t, splat(-1.453152027f));
  p = fma(p, t, splat(1.421413741f));
  p = fma(p, t, splat(-0.284496736f));
  p = fma(p, t, splat(0.254829592f));
  const Vec bounded = vmin(x, splat(9.0f));  // exp(-81) is nothing beside 1
  return splat(1.0f) - p * t * exp_precise(splat(0.0f) - bounded * bounded);
}

inline Vec apply_activation(Activation activation, Vec x) {
  switch (activation) {
    case Activation::relu:
      return vmax(splat(0.0f), x);
    case Activation::gelu: {
      const Vec magnitude = vmax(x, splat(0.0f) - x);
      const Vec e = erf_of_magnitude(magnitude * splat(0.70710678118654752f));
      // x/2 (1 + erf(x/sqrt 2)), where erf has the sign of x.
      return splat(0.5f) * (x + magnitude * e);
    }
    case Activation::gelu_tanh: {
      // x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
      const Vec u = x * fma(splat(0.044715f) * x, x, splat(1.0f));
      return x * sigmoid(u * splat(1.5957691216057308f));
    }
    case Activation::silu:
    case Activation::clamped_swiglu:  // has functions of its own
      break;
  }
  return x * sigmoid(x);
}

/// The derivative of apply_activation() by x.
inline Vec activation_slope(Activation activation, Vec x) {
  const Vec one = splat(1.0f);
  switch (activation) {
    case Activation::relu:
      return if_less(splat(0.0f), x, one, splat(0.0f));
    case Activation::gelu: {
      // Phi(x) + x phi(x); erf has the sign of x.
      const Vec magnitude = vmax(x, splat(0.0f) - x);
      const Vec e = erf_of_magnitude(magnitude * splat(0.70710678118654752f));
      const Vec phi = splat(0.39894228040143268f) * exp_precise(splat(-0.5f) * vmin(x * x, splat(160.0f)));
      return splat(0.5f) * (one + if_less(x, splat(0.0f), splat(0.0f) - e, e)) + x * phi;
    }
    case Activation::gelu_tanh: {
      const Vec cubic = splat(0.044715f) * x * x;
      const Vec s = sigmoid(x * (one + cubic) * splat(1.5957691216057308f));
      return s + x * s * (one - s) * splat(1.5957691216057308f) * fma(splat(3.0f), cubic, one);
    }
    case Activation::silu:
    case Activation::clamped_swiglu:
      break;
  }
  const Vec s = sigmoid(x);
  return s * fma(x, one - s, one);
}

// gpt-oss's modeling_gpt_oss.py: swiglu_limit and swiglu_alpha.
constexpr float kSwigluLimit = 7.0f;
constexpr float kSwigluAlpha = 1.702f;

/// act(gate) * up, and the gradients by both times `gradient`.
struct GatedGradient {
  Vec value, by_gate, by_up;
};

inline Vec clamped_swiglu(Vec gate, Vec up) {
  const Vec g = vmin(splat(kSwigluLimit), gate);
  const Vec u = vmin(splat(kSwigluLimit), vmax(splat(-kSwigluLimit), up));
  return g * sigmoid(splat(kSwigluAlpha) * g) * (u + splat(1.0f));
}

/// A number outside the limits has no gradient.
inline GatedGradient clamped_swiglu_gradient(Vec gate, Vec up, Vec gradient) {
  const Vec one = splat(1.0f);
  const Vec zero = splat(0.0f);
  const Vec limit = splat(kSwigluLimit);
  const Vec g = vmin(limit, gate);
  const Vec u = vmin(limit, vmax(zero - limit, up)) + one;
  const Vec s = sigmoid(splat(kSwigluAlpha) * g);
  const Vec slope = s * fma(splat(kSwigluAlpha) * g, one - s, one);
  return {.value = g * s * u,
          .by_gate = if_less(limit, gate, zero, gradient * u * slope),
          .by_up = if_less(limit, up, zero, if_less(up, zero - limit, zero, gradient * g * s))};
}

}  // namespace
}  // namespace knapsaq::cpu::KNAPSAQ_SET
