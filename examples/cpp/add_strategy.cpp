// A search strategy of one's own, used like those that come with Knapsaq:
//   add_strategy MODEL RUN
//
// It goes up from the smallest model: in every step it raises the variable whose local error falls most per
// byte.

#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "knapsaq/pipeline/search.h"
#include "knapsaq/search/strategy.h"

namespace {

class Climber final : public knapsaq::Strategy {
 public:
  explicit Climber(const knapsaq::StrategySetup& setup, std::int64_t steps)
      : space_(*setup.space),
        left_(setup.evaluations > 0 ? setup.evaluations : steps),
        at_(space_.smallest()) {}

  /// The next batch; one without points ends the search.
  knapsaq::Batch ask() override {
    knapsaq::Batch batch;
    if (left_-- <= 0 || !next_) return batch;
    batch.points = {at_};
    batch.phase = "climbing";
    return batch;
  }

  void tell(const knapsaq::Batch& /*batch*/, std::span<const knapsaq::Measurement> /*found*/) override {
    next_.reset();
    double best = 0;
    for (std::size_t v = 0; v < at_.size(); ++v) {
      const auto& levels = space_.variables[v].levels;
      if (at_[v] + 1u >= levels.size()) continue;
      const knapsaq::SpaceLevel& now = levels[at_[v]];
      const knapsaq::SpaceLevel& above = levels[at_[v] + 1u];
      const double gain = (now.error - above.error) / static_cast<double>(above.bytes - now.bytes);
      if (!next_ || gain > best) {
        next_ = v;
        best = gain;
      }
    }
    if (next_) ++at_[*next_];
  }

 private:
  const knapsaq::SearchSpace& space_;
  std::int64_t left_;
  knapsaq::Point at_;
  std::optional<std::size_t> next_ = 0;  ///< what was raised last; nothing: everything is at its largest
};

std::unique_ptr<knapsaq::Strategy> make_climber(const knapsaq::StrategySetup& setup,
                                                const knapsaq::OptionValues& options) {
  return std::make_unique<Climber>(setup, options.integer("steps", 1));
}

int add_strategy(const std::string& model, const std::string& run) {
  knapsaq::register_strategy({.name = "climber",
                              .summary = "raises what helps most per byte",
                              .options = {{"steps", "16", "Points to measure"}},
                              .make = make_climber});
  knapsaq::Environment environment;
  knapsaq::Session session(environment, model, knapsaq::Session::Weights::decoded);
  knapsaq::SearchOptions options;
  options.run = run;
  options.of.menu = "b2g64,b4g64";
  options.of.method = "rtn";
  options.of.calibration.samples = {.samples = 2, .window = 64};
  options.of.tokens = 256;
  options.of.heldout = 256;
  options.search.strategy = "climber";
  options.search.set = {"steps=12"};
  const knapsaq::SearchResult result = knapsaq::search(session, options);
  std::printf("%lld evaluations, %zu models on the front, hypervolume %.4f\n",
              static_cast<long long>(result.search.evaluations), result.front, result.hypervolume);
  return result.front > 2 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: add_strategy MODEL RUN\n");
    return 2;
  }
  try {
    return add_strategy(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "add_strategy: %s\n", error.what());
    return 1;
  }
}
