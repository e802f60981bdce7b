#include <algorithm>
#include <memory>
#include <utility>

#include "knapsaq/search/mxq.h"
#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

/// All of MXQ's allocations in one batch: the errors alone choose, measuring tells what the choices are
/// worth.
class MxqSearch : public Strategy {
 public:
  MxqSearch(const StrategySetup& setup, std::size_t points) {
    if (setup.evaluations > 0) points = std::min(points, static_cast<std::size_t>(setup.evaluations));
    points_ = mxq_points(*setup.space, points, setup.budget);
    planned_ = std::ssize(points_);
  }

  Batch ask() override {
    Batch batch;
    batch.points = std::exchange(points_, {});
    batch.phase = "optima of the table";
    return batch;
  }

  void tell(const Batch&, std::span<const Measurement>) override {}
  std::int64_t planned() const override { return planned_; }

 private:
  std::vector<Point> points_;
  std::int64_t planned_ = 0;
};

}  // namespace

StrategyInfo mxq_strategy() {
  return {"mxq",
          "MXQ: the least sum of the linears' errors at every size, by the exact knapsack",
          {{"points", "32", "sizes, evenly spaced from the smallest to the cheapest allocation"}},
          [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
            return std::make_unique<MxqSearch>(setup, static_cast<std::size_t>(options.integer("points", 1)));
          }};
}

}  // namespace knapsaq
