// What is chosen: runs with made measurements of a tiny model, so that every case of the guard is at hand.

#include "knapsaq/search/selection.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/bank/build_bank.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/uniform.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kLength = 8;
constexpr std::int64_t kWindows = 3;

// Everything is in the archive: nothing is loaded.
Selection choose(Run& run, const Budget& budget) {
  RunEvaluators evaluators(run, {});
  return choose(run, budget, evaluators);
}
Selection choose_near(Run& run, double bits, double tolerance) {
  RunEvaluators evaluators(run, {});
  return choose_near(run, bits, tolerance, evaluators);
}

/// A run of a tiny model whose linears take 2, 4 or 8 bits. Everything that is asked of it is in its archive.
class MadeRun {
 public:
  /// `uniform`: divergence of every uniform model on the held-out text.
  explicit MadeRun(double uniform = 0.5) : run_(make(scratch_)) {
    run_.archive().set_about("heldout loss of the full-precision model", "3");
    for (const Point& point : uniform_points(run_.space())) add(kHeldOutSet, point, uniform);
  }

  Run& run() { return run_; }
  const SearchSpace& space() const { return run_.space(); }

  /// The smallest point with the first `raised` variables at their largest level.
  Point point(std::size_t raised) const {
    Point result = space().smallest();
    const Point largest = space().largest();
    std::copy_n(largest.begin(), raised, result.begin());
    return result;
  }

  void add(std::string_view set, const Point& point, double kl) {
    Measurement measurement;
    measurement.windows = kWindows;
    measurement.tokens = kWindows * (kLength - 1);
    measurement.kl = kl;
    measurement.loss = std::isfinite(kl) ? 3 + kl : kl;
    measurement.per_token.assign(static_cast<std::size_t>(measurement.tokens), static_cast<float>(kl));
    measurement.window_loss.assign(static_cast<std::size_t>(kWindows), static_cast<float>(measurement.loss));
    run_.archive().add(set, point, measurement, 0.1);
  }

 private:
  static Run make(const Scratch& scratch) {
    const fs::path model = fs::path(KNAPSAQ_TEST_DATA) / "model/decoder/llama-gqa";
    const Checkpoint checkpoint = Checkpoint::open(model);
    const ModelConfig config = parse_model_config(checkpoint.config());
    const std::string id = fingerprint(checkpoint);
    build_bank(checkpoint, {id, parse_menu("rtn:b2g32,rtn:b4g32,rtn:b8g32"), matrices(config)},
               BankFolder(scratch / "bank"));
    RunSettings settings;
    settings.model = id;
    settings.text = "made";
    settings.search.length = settings.heldout.length = kLength;
    settings.search.tokens.assign(static_cast<std::size_t>(kWindows * kLength), 1);
    settings.heldout.tokens.assign(static_cast<std::size_t>(kWindows * kLength), 2);
    return Run::create(scratch / "run", model, scratch / "bank", settings);
  }

  Scratch scratch_;
  Run run_;
};

TEST(Guard, TheBetterOfSearchedAndUniformIsShipped) {
  MadeRun made;
  const Point good = made.point(5);
  made.add(kSearchSet, good, 0.2);
  made.add(kSearchSet, made.point(2), 0.9);
  made.add(kHeldOutSet, good, 0.3);
  const Budget budget{made.space().bytes(good), Budget::Of::files};
  Selection selection = choose(made.run(), budget);
  EXPECT_EQ(selection.chosen.point, good);
  EXPECT_FALSE(selection.is_uniform);
  ASSERT_TRUE(selection.other);
  EXPECT_NEAR(selection.difference.mean, -0.2, 1e-3);

  MadeRun worse;
  worse.add(kSearchSet, good, 0.2);
  worse.add(kHeldOutSet, good, 0.7);
  selection = choose(worse.run(), budget);
  EXPECT_TRUE(selection.is_uniform);
  ASSERT_TRUE(selection.other);
  EXPECT_EQ(selection.other->point, good);
}

TEST(Guard, WhatIsNotFiniteOnHeldOutTextLosesToUniform) {
  for (const double broken : {kNaN, kInfinity}) {
    MadeRun made;
    const Point point = made.point(5);
    made.add(kSearchSet, point, 0.01);
    made.add(kHeldOutSet, point, broken);
    const Selection selection = choose(made.run(), {made.space().bytes(point), Budget::Of::files});
    EXPECT_TRUE(selection.is_uniform);
    EXPECT_NE(selection.chosen.point, point);
    EXPECT_TRUE(selection.chosen.heldout.finite());
    EXPECT_FALSE(selection.other) << "what has no numbers is nothing to compare with";
  }
}

TEST(Guard, TheNextBestSearchedTakesThePlaceOfABrokenOne) {
  MadeRun made;
  const Point best = made.point(5);
  const Point next = made.point(4);
  made.add(kSearchSet, best, 0.01);
  made.add(kHeldOutSet, best, kNaN);
  made.add(kSearchSet, next, 0.02);
  made.add(kHeldOutSet, next, 0.1);
  const Selection selection = choose(made.run(), {made.space().bytes(best), Budget::Of::files});
  EXPECT_EQ(selection.chosen.point, next);
  EXPECT_FALSE(selection.is_uniform);
}

TEST(Guard, WhatIsNotFiniteWhileSearchingIsNeverAsked) {
  MadeRun made;
  const Point broken = made.point(5);
  const Point sound = made.point(4);
  made.add(kSearchSet, broken, kNaN);
  made.add(kSearchSet, sound, 0.4);
  made.add(kHeldOutSet, sound, 0.4);
  EXPECT_EQ(choose(made.run(), {made.space().bytes(broken), Budget::Of::files}).chosen.point, sound);
  EXPECT_EQ(choose_near(made.run(), made.space().bits(broken), 1).chosen.point, sound);
  // As such in the archive: nothing else is known of it.
  const auto kept = made.run().archive().find(kSearchSet, broken, kWindows);
  ASSERT_TRUE(kept);
  EXPECT_FALSE(kept->finite());
  EXPECT_TRUE(std::isnan(kept->kl));
}

TEST(Guard, WithoutAnOpponentABrokenModelIsNotShippedEither) {
  for (const double broken : {kNaN, kInfinity}) {
    MadeRun made(broken);
    const Point point = made.point(5);
    const Budget budget{made.space().bytes(point), Budget::Of::files};
    EXPECT_THROW(choose(made.run(), budget), NotFiniteError) << "only uniform ones";
    made.add(kSearchSet, point, 0.1);
    made.add(kHeldOutSet, point, broken);
    EXPECT_THROW(choose(made.run(), budget), NotFiniteError);
    EXPECT_THROW(choose_near(made.run(), made.space().bits(point), 0.01), NotFiniteError);
    const Point sound = made.point(4);
    made.add(kSearchSet, sound, 0.2);
    made.add(kHeldOutSet, sound, 0.2);
    const Selection selection = choose(made.run(), budget);
    EXPECT_EQ(selection.chosen.point, sound);
    EXPECT_FALSE(selection.other);
  }
}

TEST(Guard, ABrokenFullModelIsAnError) {
  for (const char* loss : {"nan", "inf", "-nan"}) {
    MadeRun made;
    made.run().archive().set_about("heldout loss of the full-precision model", loss);
    made.add(kSearchSet, made.point(3), 0.1);
    made.add(kHeldOutSet, made.point(3), 0.1);
    try {
      choose(made.run(), {made.space().bytes(made.point(3)), Budget::Of::files});
      FAIL() << loss;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("full model"));
    }
  }
}

}  // namespace
}  // namespace knapsaq
