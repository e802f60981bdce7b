#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// A strategy that knows all its points in advance: it asks once.
class OneBatch final : public Strategy {
 public:
  /// The first `most` of the points; 0: all.
  OneBatch(std::vector<Point> points, std::string phase, std::int64_t most)
      : points_(std::move(points)), phase_(std::move(phase)) {
    if (most > 0 && std::ssize(points_) > most) points_.resize(static_cast<std::size_t>(most));
    planned_ = std::ssize(points_);
  }

  Batch ask() override {
    Batch batch;
    batch.points = std::exchange(points_, {});
    batch.phase = phase_;
    return batch;
  }
  void tell(const Batch&, std::span<const Measurement>) override {}
  std::int64_t planned() const override { return planned_; }

 private:
  std::vector<Point> points_;
  std::string phase_;
  std::int64_t planned_ = 0;
};

}  // namespace knapsaq
