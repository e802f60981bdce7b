#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/search/archive.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/run.h"

namespace knapsaq::command {

/// What some searches of a run have found together, for printing.
class RunView {
 public:
  /// `searches`: ids; none: all of the run.
  RunView(const Run& run, const std::vector<std::int64_t>& searches = {});

  struct FrontPoint {
    Point point;
    std::uint64_t bytes = 0;
    double bits = 0;
    Measurement measurement;
    std::string strategy;  ///< that asked for it first
  };
  /// Ascending by size. Only points measured on all windows.
  const std::vector<FrontPoint>& front() const { return front_; }
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
  std::vector<FrontPoint> front_;
  double hypervolume_ = 0;
  std::optional<Outcome> reference_;
  std::int64_t evaluations_ = 0;
  double full_passes_ = 0;
};

/// [{"linear": .., "scheme": ..}, ..]
nlohmann::ordered_json allocation_json(const SearchSpace& space, const Point& point);
/// "b2 x 12, b3 x 20, b4 x 10": how many linears have which scheme.
std::string scheme_counts(const SearchSpace& space, const Point& point);

}  // namespace knapsaq::command
