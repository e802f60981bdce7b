// What fit() does after its search: corrected codes, tuning, and who judges them.

#include "knapsaq/pipeline/effort.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/report/written_steps.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

FitOptions small_fit(const fs::path& output, std::string effort) {
  FitOptions options;
  options.output = output.string();
  options.effort = std::move(effort);
  options.budget.bytes = 2'300'000;
  options.of.menu = "b2g64,b3g64,b4g64";
  options.of.calibration.samples = {.samples = 24, .window = 256};
  options.of.calibration.text = {asset("wiki-llama-6m-sample.txt").string()};
  options.of.tokens = 1024;
  options.of.heldout = 4096;
  options.search.strategy = "uniform";
  return options;
}

/// Stops the work when a stage of this name begins, or at a note with these words.
class Stopper final : public Listener {
 public:
  explicit Stopper(std::string stage = {}) : stage_(std::move(stage)) {}
  void begin(std::string_view what, std::uint64_t, std::string_view) override { look(what); }
  void note(std::string_view line) override { look(line); }
  Cancellation cancellation;
  std::string stopped_at;

 private:
  void look(std::string_view words) {
    if (stage_.empty() || words.find(stage_) == std::string_view::npos || !stopped_at.empty()) return;
    stopped_at = words;
    cancellation.request();
  }
  std::string stage_;
};

FitResult fit_with(Stopper& listener, const FitOptions& options, int threads = 2) {
  Environment environment(
      {.threads = threads, .listener = &listener, .cancellation = &listener.cancellation});
  Session session(environment, asset("wiki-llama-6m"), Session::Weights::decoded);
  return fit(session, options);
}

std::vector<std::string> names_of(const WrittenModel& model) {
  std::vector<std::string> names;
  for (const WritingStep& step : model.steps) names.push_back(step.name);
  return names;
}

std::string weights(const FitResult& result) { return read_file(result.model.path / "model.safetensors"); }

TEST(Effort, IsSpelled) {
  for (const Effort effort : {Effort::quick, Effort::normal, Effort::best})
    EXPECT_EQ(parse_effort(name_of(effort)), effort);
  EXPECT_THROW(parse_effort("much"), UsageError);
  const Scratch scratch;
  Stopper nobody;
  EXPECT_THROW(fit_with(nobody, small_fit(scratch / "out", "much")), UsageError);
  EXPECT_FALSE(fs::exists(scratch / "out.run"));
}

TEST(Effort, EveryStepIsCloserAtTheSameBytes) {
  const Scratch scratch;
  Stopper nobody;
  const FitResult quick = fit_with(nobody, small_fit(scratch / "quick", "quick"));
  EXPECT_TRUE(quick.model.steps.empty());
  const FitResult normal = fit_with(nobody, small_fit(scratch / "normal", "normal"));
  EXPECT_THAT(names_of(normal.model), ElementsAre("bank", "corrected", "tuned"));
  EXPECT_EQ(normal.model.bytes, quick.model.bytes);
  EXPECT_EQ(fs::file_size(normal.model.path / "model.safetensors"),
            fs::file_size(quick.model.path / "model.safetensors"));
  EXPECT_EQ(normal.model.steps.front().judged.kl, quick.model.chosen.kl);
  for (std::size_t i = 1; i < normal.model.steps.size(); ++i)
    EXPECT_LT(normal.model.steps[i].divergence, normal.model.steps[i - 1].divergence) << i;
  EXPECT_LT(normal.model.chosen.kl, 0.9 * quick.model.chosen.kl);
  EXPECT_EQ(normal.model.steps.back().judged.kl, normal.model.chosen.kl);

  // What the report shows is what was found.
  const std::vector<WrittenSteps> kept = read_written_steps(normal.run);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept.front().effort, "normal");
  EXPECT_EQ(kept.front().bytes, normal.model.bytes);
  ASSERT_EQ(kept.front().steps.size(), 3u);
  EXPECT_EQ(kept.front().steps.back().divergence, normal.model.chosen.kl);
  EXPECT_THAT(read_file(normal.report), ::testing::HasSubstr("\"written\""));
  // Nothing of the way is left.
  EXPECT_FALSE(fs::exists(fs::path(normal.run) / "improved"));
  EXPECT_FALSE(fs::exists(fs::path(normal.run) / "corrected"));
}

TEST(Effort, GoesOnWhereItWasStopped) {
  const Scratch scratch;
  Stopper nobody;
  const std::string expected = weights(fit_with(nobody, small_fit(scratch / "whole", "normal")));
  // In the middle of corrected codes, and while a model is tuned.
  for (const std::string stage : {"correcting codes", "tuning"}) {
    const fs::path output = scratch / stage;
    Stopper stopper(stage);
    EXPECT_THROW(fit_with(stopper, small_fit(output, "normal")), Cancelled) << stage;
    EXPECT_FALSE(fs::exists(output)) << stage;
    EXPECT_EQ(weights(fit_with(nobody, small_fit(output, "normal"), 1)), expected) << stage;
  }
}

TEST(Effort, SaysWhatItCostsBeforehand) {
  const Scratch scratch;
  Stopper stopper("effort best: after the search");
  EXPECT_THROW(fit_with(stopper, small_fit(scratch / "out", "best")), Cancelled);
  EXPECT_THAT(stopper.stopped_at, ::testing::HasSubstr("full passes"));
}

TEST(Effort, IsForTheEnginesFormatsToo) {
  const Scratch scratch;
  Stopper nobody;
  FitOptions options = small_fit(scratch / "out.gguf", "normal");
  options.of.engine = "llama.cpp";
  options.of.menu = "q3_k,q4_k,q6_k,q8_0";
  options.budget.bytes = 4'600'000;
  const FitResult result = fit_with(nobody, options);
  EXPECT_LE(result.model.bytes, 4'600'000u);
  EXPECT_GE(result.model.steps.size(), 2u);
  EXPECT_EQ(fs::file_size(result.model.path), result.model.bytes);
}

}  // namespace
}  // namespace knapsaq
