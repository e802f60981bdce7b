#pragma once

#include <cstdint>

namespace knapsaq {

/// x / rms(x), or (x - mean(x)) / deviation(x).
enum class Norm : std::uint8_t { rms, layer };

/// silu: x * sigmoid(x). gelu: x * Phi(x) by the error function; gelu_tanh: its approximation by tanh.
enum class Activation : std::uint8_t { silu, relu, gelu, gelu_tanh };

}  // namespace knapsaq
