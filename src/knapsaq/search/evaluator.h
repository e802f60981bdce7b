#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Measures allocations on one fixed token set. Strategies never see it: run_search() stands between them, so
/// one archive, one progress display and one way to resume serve all of them.
class Evaluator {
 public:
  virtual ~Evaluator() = default;

  virtual Divergence divergence() const = 0;
  virtual std::int64_t windows() const = 0;  ///< of the token set
  virtual std::int64_t targets() const = 0;  ///< scored tokens of one window

  /// The full-precision model's own results on these windows: its loss, no divergence. Throws NotFiniteError
  /// if the loss is not finite.
  virtual Measurement reference(WindowRange windows) = 0;

  using Done = std::function<void(std::size_t index, Measurement measurement)>;
  /// Measures every point (all different) on these windows only and reports each result as soon as it is
  /// available, in an order that depends on the points only. A result does not depend on the rest of the
  /// batch. Throws Cancelled between results.
  virtual void measure(std::span<const Point> points, WindowRange windows, const Done& done) = 0;

  /// The cost of measure(), in passes of the whole model over the whole token set. It is computed from the
  /// points alone and counts shared work once; nothing is measured.
  virtual double cost(std::span<const Point> points, WindowRange windows) const = 0;
};

}  // namespace knapsaq
