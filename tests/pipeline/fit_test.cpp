#include "knapsaq/pipeline/fit.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/pipeline/evaluate.h"
#include "knapsaq/pipeline/front.h"
#include "knapsaq/pipeline/pick.h"
#include "knapsaq/search/run_search.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

fs::path llama() { return fs::path(KNAPSAQ_SOURCE_DIR) / "assets/wiki-llama-6m"; }

/// Writes down what it hears, and stops the work at an answer of the search if that is asked for.
class Recorder final : public Listener {
 public:
  void begin(std::string_view what, std::uint64_t, std::string_view) override { stages.emplace_back(what); }
  void search_begins(const SearchView& view) override { searches.push_back(view.strategy); }
  void searching(const SearchStatus& status) override {
    measured = status.measured;
    if (status.measured == stop_at) cancellation.request();
  }
  std::int64_t count(std::string_view stage) const { return std::ranges::count(stages, stage); }

  std::vector<std::string> stages;
  std::vector<std::string> searches;
  std::int64_t measured = 0;
  std::int64_t stop_at = -1;
  Cancellation cancellation;
};

/// A search of seconds, in a folder of its own, and nothing after it (effort_test.cpp).
FitOptions small_fit(const Scratch& scratch, const std::string& output) {
  FitOptions options;
  options.effort = "quick";
  options.output = (scratch / output).string();
  options.budget.bytes = 4'300'000;
  options.of.menu = "b2g64,b3g64,b4g64";
  options.of.calibration.samples = {.samples = 2, .window = 32};
  options.of.tokens = 128;
  options.of.heldout = 128;
  options.search.evaluations = 12;
  return options;
}

FitResult fit_with(Recorder& recorder, const FitOptions& options, int threads = 2) {
  Environment environment(
      {.threads = threads, .listener = &recorder, .cancellation = &recorder.cancellation});
  Session session(environment, llama(), Session::Weights::decoded);
  return fit(session, options);
}

std::string weights(const FitResult& result) { return read_file(result.model.path / "model.safetensors"); }

TEST(Fit, LoadsTheDecoderOnce) {
  const Scratch scratch;
  Recorder recorder;
  const FitResult result = fit_with(recorder, small_fit(scratch, "out"));
  EXPECT_EQ(recorder.count("loading"), 1) << ::testing::PrintToString(recorder.stages);
  EXPECT_EQ(recorder.searches, std::vector<std::string>{"front"});
  EXPECT_EQ(result.search.evaluations, 12);
  EXPECT_LE(result.model.bytes, 4'300'000u);
  EXPECT_EQ(result.run, (scratch / "out.run").string());
  EXPECT_TRUE(fs::exists(result.report));
  EXPECT_FALSE(result.model.allocation.empty());
}

TEST(Fit, LeavesRoomForAContextInTheEngine) {
  const Scratch scratch;
  Recorder recorder;
  FitOptions options = small_fit(scratch, "out.gguf");
  options.of.engine = "llama.cpp";
  options.of.menu = "q3_k,q4_k,q6_k";
  options.budget.bytes = 15'000'000;
  options.budget.context = 500;
  options.budget.cache = "q8_0";
  const FitResult result = fit_with(recorder, options);
  EXPECT_EQ(result.budget_bytes, 15'000'000u);
  ASSERT_TRUE(result.model.memory.has_value());
  const MemoryUse memory = result.model.memory.value();
  EXPECT_EQ(memory.weights, fs::file_size(result.model.path));
  EXPECT_EQ(memory.cache, 2u * 6 * 512 * 128 / 32 * 34);
  EXPECT_LE(memory.total(), 15'000'000u);
  EXPECT_GT(memory.weights, 3'000'000u);

  // The run's engine counts for its picks.
  PickOptions pick;
  pick.run = result.run;
  pick.output = (scratch / "picked.gguf").string();
  pick.budget = options.budget;
  pick.budget.cache.clear();
  Environment environment({.threads = 2, .listener = &recorder});
  const WrittenModel picked = knapsaq::pick(environment, pick);
  EXPECT_EQ(picked.memory.value().cache, 2u * 6 * 512 * 128 * 2);
  EXPECT_LE(picked.memory.value().total(), 15'000'000u);
  pick.force = true;
  pick.budget.cache = "int8";
  EXPECT_THROW(knapsaq::pick(environment, pick), UsageError);
  pick.budget.cache = "q8_0";
  pick.budget.bytes = 12'000'000;
  try {
    knapsaq::pick(environment, pick);
    ADD_FAILURE() << "nothing was refused";
  } catch (const InfeasibleError& error) {
    pick.budget.bytes = static_cast<std::uint64_t>(error.smallest());
    EXPECT_THAT(error.what(), ::testing::HasSubstr("together"));
  }
}

TEST(Fit, IsTheSameOnAnyNumberOfThreads) {
  const Scratch scratch;
  Recorder recorder;
  const std::string one = weights(fit_with(recorder, small_fit(scratch, "one"), 1));
  EXPECT_EQ(weights(fit_with(recorder, small_fit(scratch, "three"), 3)), one);
}

TEST(Fit, GoesOnWhereItWasStopped) {
  const Scratch scratch;
  Recorder whole;
  const std::string expected = weights(fit_with(whole, small_fit(scratch, "whole")));

  Recorder stopped;
  stopped.stop_at = 5;
  EXPECT_THROW(fit_with(stopped, small_fit(scratch, "out")), Cancelled);
  EXPECT_FALSE(fs::exists(scratch / "out"));
  Recorder resumed;
  FitOptions again = small_fit(scratch, "out");
  EXPECT_EQ(weights(fit_with(resumed, again)), expected);
  EXPECT_EQ(resumed.measured, whole.measured - stopped.measured);
  EXPECT_EQ(resumed.count("sampling text"), 0) << "the run had its texts";
}

// Which errors a bank will have is known when it is there: what asks for them is not refused before.
TEST(Fit, SearchesByErrorsOfABankThatItMakes) {
  const Scratch scratch;
  Recorder recorder;
  for (const std::string cost : {"fisher", "hessian"}) {
    FitOptions options = small_fit(scratch, cost);
    options.search.strategy = "mxq";
    options.search.set = {"cost=" + cost};
    EXPECT_LE(fit_with(recorder, options).model.bytes, 4'300'000u) << cost;
  }
}

TEST(Fit, ARunMayBeGoneOnWithWhateverItIsOf) {
  const Scratch scratch;
  Recorder recorder;
  FitOptions options = small_fit(scratch, "first");
  options.run = (scratch / "run").string();
  fit_with(recorder, options);
  FitOptions other;
  other.effort = "quick";
  other.output = (scratch / "second").string();
  other.run = options.run;
  other.budget.bytes = 4'000'000;
  other.search.evaluations = 12;
  EXPECT_THROW(fit_with(recorder, other), UsageError) << "its menu is another";
  other.of.any_run = true;
  EXPECT_LE(fit_with(recorder, other).model.bytes, 4'000'000u);
}

TEST(Fit, WhatItWroteIsFoundAndPickedAndScored) {
  const Scratch scratch;
  Recorder recorder;
  const FitResult fitted = fit_with(recorder, small_fit(scratch, "out"));
  Environment environment;
  const FrontResult found = front(environment, {.run = fitted.run, .model = {}, .strategy = {}, .seed = {}});
  ASSERT_FALSE(found.points.empty());
  EXPECT_EQ(found.all.evaluations, 12);
  EXPECT_EQ(found.divergence, "kl");

  PickOptions picking;
  picking.run = fitted.run;
  picking.output = (scratch / "picked").string();
  picking.budget.bytes = 3'900'000;
  const WrittenModel picked = pick(environment, picking);
  EXPECT_LE(picked.bytes, 3'900'000u);
  EXPECT_GE(picked.chosen.kl, fitted.model.chosen.kl);

  write_file(scratch / "text.txt", std::string(4000, 'a') + " river and the city of the north");
  Session session(environment, picked.path);
  EvaluateOptions scoring;
  scoring.text = (scratch / "text.txt").string();
  scoring.windows.window = 64;
  const EvaluateResult score = evaluate(session, scoring);
  ASSERT_TRUE(score.text);
  EXPECT_GT(score.text->perplexity, 1);
}

TEST(Fit, RefusesBeforeAnyWork) {
  const Scratch scratch;
  Recorder recorder;
  FitOptions options = small_fit(scratch, "out");
  options.budget.bytes = 1000;
  EXPECT_THROW(fit_with(recorder, options), InfeasibleError);
  options = small_fit(scratch, "out");
  options.search.strategy = "luck";
  EXPECT_THROW(fit_with(recorder, options), UsageError);
  options = small_fit(scratch, "no/such/folder");
  EXPECT_ANY_THROW(fit_with(recorder, options));
  EXPECT_EQ(recorder.count("loading"), 0);
  EXPECT_FALSE(fs::exists(scratch / "out.run"));
}

}  // namespace
}  // namespace knapsaq
