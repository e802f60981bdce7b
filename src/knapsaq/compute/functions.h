#pragma once

#include <cstdint>

namespace knapsaq {

/// x / rms(x), or (x - mean(x)) / deviation(x).
enum class Norm : std::uint8_t { rms, layer };

/// silu: x * sigmoid(x). gelu: x * Phi(x) by the error function; gelu_tanh: its approximation by tanh.
/// clamped_swiglu (gpt-oss) is a function of gate and up: g * sigmoid(1.702 g) * (u + 1) with g = min(gate,
/// 7) and u = min(max(up, -7), 7).
enum class Activation : std::uint8_t { silu, relu, gelu, gelu_tanh, clamped_swiglu };

}  // namespace knapsaq
