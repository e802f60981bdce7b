#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// The weights of tools/made_weights.py, bit for bit: only integer arithmetic and correctly rounded fp64
/// operations, in the same order.
class MadeWeights {
 public:
  MadeWeights(std::string_view kind, std::int64_t rows, std::int64_t cols)
      : rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {
    const auto n = static_cast<std::uint64_t>(rows * cols);
    const auto put = [&](std::uint64_t i, double w) { values_[i] = static_cast<float>(w); };
    if (kind == "normal") {
      for (std::uint64_t i = 0; i < n; ++i) put(i, normal(1, i) * 0.02);
    } else if (kind == "wide") {
      for (std::uint64_t i = 0; i < n; ++i) put(i, normal(2, i));
    } else if (kind == "student") {
      for (std::uint64_t i = 0; i < n; ++i) {
        double x[4];
        for (std::uint64_t j = 0; j < 4; ++j) x[j] = normal(3, 4 * i + j);
        const double chi2 = (x[1] * x[1] + x[2] * x[2]) + x[3] * x[3];
        put(i, x[0] / std::sqrt(chi2 / 3.0) * 0.02);
      }
    } else if (kind == "constant") {
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t col = i % static_cast<std::uint64_t>(cols);
        put(i, normal(4, col % 256 < 128 ? i - col % 256 : i) * 0.02);
      }
    } else {
      throw std::logic_error("no such kind of weights");
    }
  }

  MatrixView view() const { return {rows_, cols_, values_}; }
  std::vector<float>& values() { return values_; }

 private:
  static std::uint64_t draw(std::uint64_t seed, std::uint64_t i) {
    std::uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  static double normal(std::uint64_t seed, std::uint64_t i) {
    std::int64_t total = 0;
    for (std::uint64_t word = 0; word < 3; ++word) {
      for (int part = 0; part < 4; ++part) {
        total += static_cast<std::int64_t>(draw(seed, 3 * i + word) >> (16 * part) & 0xFFFF);
      }
    }
    return static_cast<double>(total - 6 * 65535) / 65536.0;
  }

  std::int64_t rows_;
  std::int64_t cols_;
  std::vector<float> values_;
};

}  // namespace knapsaq
