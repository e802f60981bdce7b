#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/random.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/gradient_calibrator.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "message_of.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// A tiny model and windows of random tokens.
struct Tiny {
  explicit Tiny(const std::string& name, std::int64_t windows = 6, std::int64_t length = 12)
      : checkpoint(Checkpoint::open(fs::path(KNAPSAQ_TEST_DATA) / "model" / "decoder" / name)),
        config(parse_model_config(checkpoint.config())) {
    Random random(3);
    for (std::int64_t i = 0; i < windows * length; ++i)
      samples.tokens.push_back(
          static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocab))));
    samples.options = {.samples = windows, .window = length, .seed = 0};
    samples.text = "text";
    samples.hash = hash_hex(std::as_bytes(std::span(samples.tokens)));
  }
  Calibration calibrate_into(const fs::path& folder, std::int64_t gradient_windows,
                             bool replace = false) const {
    const auto backend = make_backend({.precision = Precision::fp32});
    return calibrate(checkpoint, config, fingerprint(checkpoint), samples, *backend, folder, replace,
                     Progress::none(), gradient_windows);
  }

  Checkpoint checkpoint;
  ModelConfig config;
  Samples samples;
};

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

class GradientModels : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, GradientModels, ::testing::Values("llama-gqa", "qwen3", "opt", "opt-350m"),
                         [](const auto& one) {
                           std::string name = one.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(GradientModels, StatisticsAreThoseOfADecodersBackwardPass) {
  const Tiny model(GetParam());
  const Scratch scratch;
  constexpr std::int64_t kWindows = 2;
  const Calibration calibration = model.calibrate_into(scratch / "c", kWindows);
  ASSERT_TRUE(calibration.has_outputs());
  // The gradients of one pass over both windows, with the random numbers that calibrations use.
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(model.checkpoint, model.config, *backend);
  const std::int64_t tokens = kWindows * model.samples.options.window;
  Random random(0x6669736865720000u);
  std::vector<double> draws;
  for (std::int64_t i = 0; i < tokens; ++i) draws.push_back(random.uniform());
  std::map<std::string, std::vector<double>> moments;
  const auto count = static_cast<std::size_t>(tokens);
  std::vector<float> losses(count);
  const GradientObserver observer{
      .matrix =
          [&](const Matrix& matrix, const Array& x, const Array& gradient, std::int64_t, std::int64_t rows) {
            const bool is_head = matrix.role == Role::head || (matrix.tied && !x.empty());
            const auto width = static_cast<std::size_t>(gradient.cols());
            std::vector<float> g(static_cast<std::size_t>(rows) * width);
            backend->download(gradient, 0, g);
            std::vector<double>& sums = moments[is_head ? std::string(kHeadModule) : matrix.name];
            sums.resize(is_head ? width : width * width);
            for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t)
              for (std::size_t k = 0; k < width; ++k) {
                const double value = static_cast<double>(g[t * width + k]);
                // What the square is on average over targets: p (1 - p).
                if (is_head) sums[k] += std::abs(value) * (1 - std::abs(value));
                for (std::size_t l = 0; l < width && !is_head; ++l)
                  sums[k * width + l] += value * static_cast<double>(g[t * width + l]);
              }
          },
      .norm = {}};
  decoder.backward(std::span(model.samples.tokens).first(count), kWindows, model.samples.options.window,
                   {.draws = draws}, losses, observer);
  for (const Matrix& matrix : matrices(model.config)) {
    const bool looked_up = matrix.is_looked_up();
    const std::int64_t width = looked_up ? matrix.in : matrix.out;
    const std::optional<OutputStatistics> found = calibration.outputs(matrix.name, width);
    ASSERT_TRUE(found) << matrix.name;
    EXPECT_EQ(found->tokens, count);
    const std::vector<double>& expected = moments.at(matrix.name);
    const auto n = static_cast<std::size_t>(width);
    ASSERT_EQ(found->mean_square.size(), n);
    const bool is_head = matrix.role == Role::head;
    EXPECT_EQ(found->second_moment.size(), is_head ? 0 : n * n) << matrix.name;
    double largest = 0;
    for (const double sum : expected)
      largest = std::max(largest, std::abs(sum) / static_cast<double>(tokens));
    EXPECT_GT(largest, 0) << matrix.name;
    for (std::size_t k = 0; k < n; ++k) {
      const double square = expected[is_head ? k : k * n + k] / static_cast<double>(tokens);
      EXPECT_NEAR(found->mean_square[k], square, 1e-5 * largest) << matrix.name;
      for (std::size_t l = 0; l < n && !is_head; ++l)
        EXPECT_NEAR(found->second_moment[k * n + l], expected[k * n + l] / static_cast<double>(tokens),
                    1e-5 * largest);
    }
  }
  if (model.config.tied) {
    const std::optional<OutputStatistics> head = calibration.outputs(kHeadModule, model.config.vocab);
    ASSERT_TRUE(head);
    for (std::size_t k = 0; k < head->mean_square.size(); ++k)
      EXPECT_NEAR(head->mean_square[k], moments.at(std::string(kHeadModule))[k] / static_cast<double>(tokens),
                  1e-6);
  }
  EXPECT_THROW(static_cast<void>(calibration.outputs("other", 3)), InputError);
  EXPECT_THROW(static_cast<void>(calibration.outputs(kHeadModule, 3)), InputError);
}

TEST_P(GradientModels, NeitherThreadsNorPlacesOfTheWeightsChangeBytes) {
  const Tiny model(GetParam());
  const Scratch scratch;
  work_with_threads(1);
  model.calibrate_into(scratch / "one", 3);
  work_with_threads(4);
  model.calibrate_into(scratch / "four", 3);
  work_with_threads(0);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(model.checkpoint, model.config, *backend);
  calibrate(decoder, fingerprint(model.checkpoint), model.samples, scratch / "loaded", false,
            Progress::none(), 3);
  EXPECT_EQ(contents(scratch / "one"), contents(scratch / "four"));
  EXPECT_EQ(contents(scratch / "one"), contents(scratch / "loaded"));
}

TEST(Gradients, GoOnWhereTheyWereKilled) {
  const Tiny model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  model.calibrate_into(folder, 2);
  const auto whole = contents(folder);
  ASSERT_EQ(whole.size(),
            8u);  // two blocks and the ends; the head, two blocks and the embedding; the description
  for (std::size_t finished = 0; finished <= 4; ++finished) {
    Manifest manifest = parse_manifest(whole.at("calibration.json"));
    manifest.outputs->files.resize(finished);
    write_file(folder / "calibration.json", to_json(manifest));
    for (std::size_t at = finished; at < 4; ++at)
      fs::remove(folder / output_file_name(manifest.place_of_output(at)));
    EXPECT_EQ(Calibration::open(folder).has_outputs(), finished == 4);
    const auto stamp = fs::last_write_time(folder / "block-00000.safetensors");
    model.calibrate_into(folder, 2);
    EXPECT_EQ(contents(folder), whole) << finished;
    EXPECT_EQ(fs::last_write_time(folder / "block-00000.safetensors"), stamp);
  }
  // A damaged file, and those that follow it in the order of the pass.
  write_file(folder / "outputs-00001.safetensors", "xx");
  EXPECT_THAT(message_of([&] {
                static_cast<void>(Calibration::open(folder).outputs("model.layers.1.mlp.down_proj", 40));
              }),
              HasSubstr("damaged"));
  model.calibrate_into(folder, 2);
  EXPECT_EQ(contents(folder), whole);
}

TEST(Gradients, CompleteACalibrationThatHasNone) {
  const Tiny model("llama-gqa");
  const Scratch scratch;
  const fs::path folder = scratch / "c";
  const Calibration before = model.calibrate_into(folder, 0);
  EXPECT_FALSE(before.has_outputs());
  EXPECT_FALSE(before.outputs("lm_head", model.config.vocab));
  Calibration after = model.calibrate_into(folder, 2);
  model.calibrate_into(scratch / "at once", 2);
  EXPECT_EQ(contents(folder), contents(scratch / "at once"));
  EXPECT_TRUE(after.has_outputs());
  EXPECT_NE(before.identity(), after.identity());
  // What is there is used where it is not asked for, and can be left aside.
  EXPECT_TRUE(model.calibrate_into(folder, 0).has_outputs());
  after.forget_outputs();
  EXPECT_FALSE(after.has_outputs());
  EXPECT_EQ(before.identity(), after.identity());
  // Another number of windows makes another calibration.
  EXPECT_THROW(model.calibrate_into(folder, 3), UsageError);
  EXPECT_EQ(model.calibrate_into(folder, 3, true).identity(),
            model.calibrate_into(scratch / "3", 3).identity());
}

TEST(Gradients, ComeInTheOrderOfTheBackwardPass) {
  const Tiny model("llama-gqa");
  const auto backend = make_backend({.precision = Precision::fp32});
  GradientCalibrator calibrator(model.checkpoint, model.config, model.samples, 1, *backend);
  EXPECT_THROW(calibrator.block(1), std::logic_error);
  EXPECT_THROW(calibrator.embedding(), std::logic_error);
  calibrator.head();
  EXPECT_THROW(calibrator.head(), std::logic_error);
  EXPECT_THROW(calibrator.block(0), std::logic_error);
  EXPECT_EQ(calibrator.block(1).size(), 7u);
  EXPECT_TRUE(calibrator.block(0, false).empty());
  EXPECT_EQ(calibrator.embedding().tokens, 12u);
}

}  // namespace
}  // namespace knapsaq
