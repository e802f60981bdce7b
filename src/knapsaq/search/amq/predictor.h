#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace knapsaq {

/// Predicts the divergence of points from measured ones.
class Predictor {
 public:
  virtual ~Predictor() = default;
  /// Fits more points [values.size(), variables], with every variable within [0, 1]. Points that were added
  /// before must not be among them.
  virtual void add(std::span<const double> points, std::span<const double> values) = 0;
  /// One value for each of the points [.., variables].
  virtual std::vector<double> predict(std::span<const double> points) const = 0;
};

}  // namespace knapsaq
