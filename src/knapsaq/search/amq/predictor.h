#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace knapsaq {

/// Guesses the divergence of points from those that were measured.
class Predictor {
 public:
  virtual ~Predictor() = default;
  /// Learns from more points [values.size(), variables], every variable within [0, 1]; one that it knows
  /// already must not be among them.
  virtual void add(std::span<const double> points, std::span<const double> values) = 0;
  /// One value for each of the points [.., variables].
  virtual std::vector<double> predict(std::span<const double> points) const = 0;
};

}  // namespace knapsaq
