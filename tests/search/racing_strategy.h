#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "knapsaq/base/random.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// A strategy that leaves nothing out: every round draws points near the best, some of them twice, asks for
/// all on one window and for the better halves on two and on all; what it asks next depends on every bit of
/// the answers, per_token included; it predicts and it notes.
class RacingStrategy : public Strategy {
 public:
  RacingStrategy(const StrategySetup& setup, int rounds)
      : space_(*setup.space), windows_(setup.windows), random_(setup.seed), rounds_(rounds) {
    best_ = space_.largest();
  }

  Batch ask() override {
    Batch batch;
    if (racers_.empty()) {
      if (round_ == rounds_) return batch;
      ++round_;
      fidelity_ = 1;
      for (int i = 0; i < 12; ++i) {
        Point point = best_;
        for (int change = 0; change < 3; ++change) {
          const std::size_t v = random_.below(point.size());
          point[v] = static_cast<std::uint8_t>(random_.below(space_.variables[v].levels.size()));
        }
        racers_.push_back(std::move(point));
      }
      racers_.push_back(racers_.front());
    }
    batch.points = racers_;
    batch.windows = fidelity_ == windows_ ? 0 : fidelity_;
    for (std::size_t i = 0; i < racers_.size(); ++i)
      batch.predicted.push_back(i % 3 == 0 ? std::nan("") : last_ + static_cast<double>(i));
    batch.phase = "round " + std::to_string(round_);
    return batch;
  }

  void tell(const Batch& batch, std::span<const Measurement> measurements) override {
    std::vector<std::size_t> order(batch.points.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto score = [&](std::size_t i) {
      return measurements[i].kl + 8 * static_cast<double>(space_.linear_bytes(batch.points[i])) /
                                      static_cast<double>(space_.parameters);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return score(a) < score(b); });
    last_ = 0;
    for (const Measurement& m : measurements) {
      last_ += m.kl + m.loss * m.agreement;
      for (const float value : m.per_token) last_ = std::fmod(last_ * 1.7 + value, 16.0);
    }
    random_ = Random(random_.bits() ^ std::bit_cast<std::uint64_t>(last_));
    notes_.push_back({"round", {{"best", score(order.front())}, {"mixed", last_}, {"nothing", NAN}}});
    if (fidelity_ == windows_) {
      best_ = batch.points[order.front()];
      racers_.clear();
    } else {
      std::vector<Point> kept_points;
      for (std::size_t i = 0; i < (order.size() + 1) / 2; ++i) kept_points.push_back(batch.points[order[i]]);
      racers_ = std::move(kept_points);
      fidelity_ = fidelity_ == 1 ? std::min<std::int64_t>(2, windows_) : windows_;
    }
  }

  std::vector<Note> notes() override { return std::exchange(notes_, {}); }

 private:
  const SearchSpace& space_;
  std::int64_t windows_;
  Random random_;
  int rounds_;
  int round_ = 0;
  std::int64_t fidelity_ = 1;
  std::vector<Point> racers_;
  Point best_;
  double last_ = 0;
  std::vector<Note> notes_;
};

}  // namespace knapsaq
