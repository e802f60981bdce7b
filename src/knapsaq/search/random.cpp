#include "knapsaq/base/random.h"

#include <algorithm>
#include <utility>

#include "knapsaq/search/strategies.h"

namespace knapsaq {
namespace {

/// The baseline: a strategy that does not beat it has learnt nothing.
class RandomSearch : public Strategy {
 public:
  RandomSearch(const StrategySetup& setup, const OptionValues& options)
      : space_(*setup.space),
        random_(setup.seed),
        questions_(setup.evaluations > 0 ? setup.evaluations : options.integer("evaluations", 1)),
        left_(questions_),
        batch_(options.integer("batch", 1)) {}

  Batch ask() override {
    Batch batch;
    batch.phase = "random";
    for (std::int64_t i = std::min(batch_, left_); i > 0; --i) {
      Point& point = batch.points.emplace_back();
      for (const Variable& variable : space_.variables)
        point.push_back(static_cast<std::uint8_t>(random_.below(variable.levels.size())));
    }
    left_ -= std::ssize(batch.points);
    return batch;
  }

  void tell(const Batch&, std::span<const Measurement>) override {}
  std::int64_t planned() const override { return questions_; }

 private:
  const SearchSpace& space_;
  Random random_;
  std::int64_t questions_;  ///< in all
  std::int64_t left_;
  std::int64_t batch_;
};

}  // namespace

StrategyInfo random_strategy() {
  return {"random",
          "points drawn at random, every level of every variable equally likely",
          {{"evaluations", "1000", "points to draw, unless the search sets a limit"},
           {"batch", "50", "points to draw at a time"}},
          [](const StrategySetup& setup, const OptionValues& options) -> std::unique_ptr<Strategy> {
            return std::make_unique<RandomSearch>(setup, options);
          }};
}

}  // namespace knapsaq
