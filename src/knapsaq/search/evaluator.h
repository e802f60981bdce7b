#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Measures allocations on one fixed token set. Strategies never see it: run_search() stands between, so that
/// one archive, one progress display and one resume serve all of them.
class Evaluator {
 public:
  virtual ~Evaluator() = default;

  virtual Divergence divergence() const = 0;
  virtual std::int64_t windows() const = 0;  ///< of the token set
  virtual std::int64_t targets() const = 0;  ///< scored tokens of one window

  /// What the full-precision model itself makes of these windows: its own loss, no divergence. Throws
  /// NotFiniteError if that is not finite.
  virtual Measurement reference(WindowRange windows) = 0;

  using Done = std::function<void(std::size_t index, Measurement measurement)>;
  /// Measures every point (all different) on these windows alone and tells each result as soon as it is
  /// there, in an order that depends on nothing but the points. A result does not depend on what else is in
  /// the batch. Throws Cancelled between results.
  virtual void measure(std::span<const Point> points, WindowRange windows, const Done& done) = 0;

  /// What that costs, in passes of the whole model over the whole token set: computed from the points alone,
  /// counting what the batch shares once. Needs no measurement.
  virtual double cost(std::span<const Point> points, WindowRange windows) const = 0;
};

}  // namespace knapsaq
