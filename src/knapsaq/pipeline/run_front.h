#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/search/front.h"
#include "knapsaq/search/run.h"

namespace knapsaq {

/// What some searches of a run have found together.
class RunFront {
 public:
  /// `searches`: ids; none: all of the run. The run must outlive it.
  explicit RunFront(const Run& run, const std::vector<std::int64_t>& searches = {});

  struct FoundPoint {
    Point point;
    std::uint64_t bytes = 0;
    double bits = 0;
    Measurement measurement;
    std::string strategy;  ///< that asked for it first
  };
  /// The Pareto front, ascending by size. Only points measured on all windows.
  const std::vector<FoundPoint>& points() const { return points_; }
  /// Normalised between the space's smallest and largest point; 0 until both are measured.
  double hypervolume() const { return hypervolume_; }
  /// Bits of the largest point and divergence of the smallest one.
  std::optional<Outcome> reference() const { return reference_; }
  std::int64_t evaluations() const { return evaluations_; }
  double full_passes() const { return full_passes_; }

  /// What a search noted that people want to read: the variables that AMQ fixed.
  std::vector<std::string> remarks(std::int64_t search) const;

 private:
  const Run& run_;
  std::vector<FoundPoint> points_;
  double hypervolume_ = 0;
  std::optional<Outcome> reference_;
  std::int64_t evaluations_ = 0;
  double full_passes_ = 0;
};

}  // namespace knapsaq
