#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace knapsaq {

/// Xoshiro256** seeded by SplitMix64 (Blackman and Vigna): the same numbers on every platform, which the
/// distributions of <random> do not guarantee.
class Random {
 public:
  explicit Random(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
      seed += 0x9E3779B97F4A7C15u;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
      word = z ^ (z >> 31);
    }
  }

  std::uint64_t bits() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Uniform integer in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    // Rejecting the incomplete last range keeps every value equally likely.
    const std::uint64_t limit = (~std::uint64_t{0}) - (~std::uint64_t{0}) % bound;
    std::uint64_t draw = bits();
    while (draw >= limit) draw = bits();
    return draw % bound;
  }

  /// Standard normal (Box-Muller; the second value of each pair is dropped to keep the state simple).
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::uint64_t state_[4];
};

}  // namespace knapsaq
