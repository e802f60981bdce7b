// Divergences against those that Transformers and double precision give
// (tools/make_divergence_references.py).

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

TEST(Divergence, IsThatOfTransformers) {
  const auto json =
      nlohmann::json::parse(read_file(fs::path(KNAPSAQ_TEST_DATA) / "eval" / "divergence.json"));
  for (const auto& expected : json.at("results")) {
    const std::string name = expected.at("model");
    SCOPED_TRACE(name);
    const Checkpoint checkpoint = Checkpoint::open(fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / name);
    const ModelConfig config = parse_model_config(checkpoint.config());
    const auto backend = make_backend({.precision = Precision::fp32});
    Decoder decoder = Decoder::load(checkpoint, config, *backend);
    const auto tokens = expected.at("tokens").get<std::vector<std::int32_t>>();
    const std::int64_t windows = expected.at("windows");
    const std::int64_t length = expected.at("length");
    const ReferencedWindows reference = reference_windows(decoder, tokens, windows, length);

    const auto steps = expected.at("steps").get<float>();
    for (const Matrix& linear : linears(config)) {
      std::vector<float> weights = checkpoint.floats(linear.name + ".weight");
      for (float& weight : weights) weight = std::nearbyint(weight * steps) / steps;
      decoder.replace(linear.name,
                      TensorView{DType::F32, {linear.out, linear.in}, std::as_bytes(std::span(weights))});
    }
    const ReferencedWindows candidate = reference_windows(decoder, tokens, windows, length);
    std::vector<std::int32_t> targets;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      targets.push_back((static_cast<std::int64_t>(i) + 1) % length == 0 ? -1 : tokens[i + 1]);
    std::vector<RowComparison> rows(tokens.size());
    const Compared one{&candidate.head_inputs, rows};
    backend->compare(reference.head_inputs, {decoder.head().get()}, targets, true, {&one, 1});

    double jsd = 0;
    double loss = 0;
    double agreement = 0;
    std::size_t scored = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (targets[i] < 0) continue;
      const double kl = expected.at("kl")[scored];
      const double js = expected.at("jsd")[scored];
      // The two fp32 passes before differ by 1e-5 in a logit, which moves a divergence by its square root's
      // share; the smallest values are rounded to 1e-7.
      EXPECT_NEAR(rows[i].kl, kl, 2e-5 * std::sqrt(kl) + 1e-6) << scored;
      EXPECT_NEAR(rows[i].jsd, js, 2e-5 * std::sqrt(js) + 1e-6) << scored;
      jsd += static_cast<double>(rows[i].jsd);
      loss += static_cast<double>(rows[i].loss);
      agreement += rows[i].agrees ? 1 : 0;
      ++scored;
    }
    const auto count = static_cast<double>(scored);
    EXPECT_NEAR(loss / count, expected.at("mean_loss").get<double>(), 1e-5);
    EXPECT_NEAR(agreement / count, expected.at("agreement").get<double>(), 1e-9);
    // AMQ's clamp moves its own formula by 1e-4 of a token's mass.
    EXPECT_NEAR(jsd / count, expected.at("jsd_amq").get<double>(), 1e-3 * jsd / count + 1e-5);
  }
}

}  // namespace
}  // namespace knapsaq
