#pragma once

#include <cstdint>
#include <vector>

#include "knapsaq/model/config.h"

namespace knapsaq {

/// Cosines and sines of the rotary angles, [length, head_dim / 2] each.
struct RotationTables {
  std::vector<float> cosines;
  std::vector<float> sines;
};

/// Angle of position p and pair i: p * frequency(i), with frequency(i) = theta^(-2i / head_dim), scaled
/// according to config.rope (Llama 3: frequencies whose wavelength exceeds original / low_freq_factor are
/// divided by `factor`, those below original / high_freq_factor stay, a linear blend between). Frequencies
/// and angles are rounded to fp32 as in Transformers: at position 10^4, this rounding changes the angle by
/// 10^-3.
std::vector<float> rotary_frequencies(const ModelConfig& config);
RotationTables rotation_tables(const ModelConfig& config, std::int64_t length);

}  // namespace knapsaq
