#include "knapsaq/bank/find_folding.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "measured_inputs.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// A tiny model with the tokens of its reference as the only window.
struct Model {
  explicit Model(const std::string& name)
      : folder(fs::path(KNAPSAQ_TEST_DATA) / "model" / "decoder" / name),
        checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        backend(make_backend({.precision = Precision::fp32})) {
    samples.tokens = nlohmann::json::parse(read_file(folder / "reference.json"))
                         .at("tokens")
                         .get<std::vector<std::int32_t>>();
    samples.options.samples = 1;
    samples.options.window = static_cast<std::int64_t>(samples.tokens.size());
    inputs = std::make_unique<MeasuredInputs>(checkpoint, config, samples, *backend);
  }
  Folding find(const std::string& scheme) {
    return find_folding(checkpoint, config, "fingerprint", *inputs, samples, parse_scheme(scheme), *backend);
  }

  fs::path folder;
  Checkpoint checkpoint;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  Samples samples;
  std::unique_ptr<MeasuredInputs> inputs;
};

std::vector<double> scales_of(std::vector<double> mean_abs, int ratio) {
  double mean = 0;
  for (const double x : mean_abs) mean += x / static_cast<double>(mean_abs.size());
  for (double& x : mean_abs) x = std::pow(std::max(x, 0.1 * mean), ratio / 20.0);
  const auto [least, most] = std::ranges::minmax(mean_abs);
  const double middle = std::sqrt(least * most);
  for (double& x : mean_abs) x /= middle;
  return mean_abs;
}

TEST(FindFolding, FindsTheScalesThatPyTorchFinds) {
  const auto references = nlohmann::json::parse(read_file(fs::path(KNAPSAQ_TEST_DATA) / "bank" / "awq.json"));
  for (const auto& [name, points] : references.items()) {
    Model model(name);
    const Folding folding = model.find("rtn:b3g32");
    std::size_t count = 0;
    for (const FoldPoint& point : fold_points(model.config)) {
      SCOPED_TRACE(name + " " + point.name);
      ASSERT_TRUE(points.contains(point.name));
      ++count;
      const auto sums = points[point.name]["sums"].get<std::vector<double>>();
      const auto mean_abs = points[point.name]["mean_abs"].get<std::vector<double>>();
      const auto found = folding.input_scales(point.linears.front());
      // Which alpha it is.
      int ratio = -1;
      for (int r = 0; r < 20 && ratio < 0; ++r) {
        const std::vector<double> scales = scales_of(mean_abs, r);
        bool same = true;
        for (std::size_t k = 0; k < scales.size(); ++k) {
          // Scales of norms are adjusted to what the norm's type can hold.
          const double ours = found.empty() ? 1.0 : static_cast<double>(found[k]);
          same = same && std::abs(ours / scales[k] - 1) < 5e-3;
        }
        if (same) ratio = r;
      }
      ASSERT_GE(ratio, 0);
      // Where two alphas are as good as each other to the rounding of a code or two, either will do.
      EXPECT_LE(sums[static_cast<std::size_t>(ratio)], std::ranges::min(sums) * 1.002) << ratio;
    }
    EXPECT_EQ(count, points.size());
  }
}

TEST(FindFolding, DoesNotDependOnTheNumberOfThreads) {
  Model model("opt");
  work_with_threads(1);
  const std::string one = model.find("rtn:b3g32").identity();
  work_with_threads(3);
  EXPECT_EQ(model.find("rtn:b3g32").identity(), one);
  work_with_threads(0);
}

TEST(FindFolding, LowersTheErrorOfWhatFollowsALinear) {
  for (const std::string name : {"llama2", "opt"}) {
    Model model(name);
    const Folding folding = model.find("rtn:b3g32");
    const FoldedInputs folded_inputs(*model.inputs, folding);
    for (const FoldPoint& point : fold_points(model.config)) {
      if (point.norm) continue;
      const std::string& linear = point.linears.front();
      std::vector<float> weights = model.checkpoint.floats(linear + ".weight");
      const auto error = [&](const InputSource& source) {
        const MatrixView view{static_cast<std::int64_t>(weights.size()) / point.width, point.width, weights};
        const InputStatistics inputs = source.inputs(linear, point.width);
        return local_errors(view, quantize(view, parse_scheme("rtn:b3g32")), &inputs).hessian;
      };
      const double before = error(*model.inputs);
      // Columns only: rows of these linears are not divided by anything.
      folding.apply(linear + ".weight", weights);
      EXPECT_LE(error(folded_inputs), before * (1 + 1e-6)) << linear;
    }
  }
}

TEST(FindFolding, SaysWhatItWasFoundWithAndWhatItNeeds) {
  Model model("llama2");
  const Folding folding = model.find("rtn:b3g32");
  EXPECT_EQ(folding.model(), "fingerprint");
  EXPECT_THAT(folding.origin(),
              ::testing::AllOf(::testing::HasSubstr("rtn:b3g32"), ::testing::HasSubstr("measured")));
  EXPECT_THROW(model.find("awq:b3g32"), UsageError);
  EXPECT_THROW(model.find("no-such:b3g32"), UsageError);
  model.inputs->second_moments = false;
  EXPECT_THROW(model.find("rtn:b3g32"), UsageError);
}

TEST(FindFolding, LeavesNormsExactInTheirType) {
  // wiki-opt-3m is stored in F16.
  const fs::path folder = fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-opt-3m";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::bf16});
  Samples samples;
  samples.options.samples = 1;
  samples.options.window = 64;
  for (std::int32_t i = 0; i < 64; ++i) samples.tokens.push_back((i * 37 + 11) % 4096);
  const MeasuredInputs inputs(checkpoint, config, samples, *backend);
  const Folding folding =
      find_folding(checkpoint, config, "fingerprint", inputs, samples, parse_scheme("rtn:b3g64"), *backend);
  EXPECT_FALSE(folding.empty());
  for (const FoldPoint& point : fold_points(config)) {
    const std::string name = point.name + ".weight";
    if (!point.norm || !folding.touches(name)) continue;
    std::vector<float> values = checkpoint.floats(name);
    folding.apply(name, values);
    for (const float v : values) {
      const float rounded = half_to_float(float_to_half(v));
      ASSERT_LE(std::abs(v - rounded), 1e-6f * std::abs(v)) << name;
    }
  }
}

TEST(FoldedInputs, AreThoseOfTheDividedInput) {
  InputStatistics inputs;
  inputs.width = 2;
  inputs.mean_square = {4, 9};
  inputs.mean_abs = {2, 3};
  inputs.max_abs = {5, 6};
  inputs.second_moment = {4, 1, 1, 9};
  const std::vector<float> scales{2, 0.5f};
  const InputStatistics folded = scaled(inputs, scales);
  EXPECT_EQ(folded.mean_square, (std::vector<float>{1, 36}));
  EXPECT_EQ(folded.mean_abs, (std::vector<float>{1, 6}));
  EXPECT_EQ(folded.max_abs, (std::vector<float>{2.5f, 12}));
  EXPECT_EQ(folded.second_moment, (std::vector<float>{1, 1, 1, 36}));
  EXPECT_EQ(scaled(inputs, {}).second_moment, inputs.second_moment);

  inputs.second_moment.clear();
  inputs.mean_abs.clear();
  EXPECT_EQ(scaled(inputs, scales).mean_square, folded.mean_square);
}

}  // namespace
}  // namespace knapsaq
