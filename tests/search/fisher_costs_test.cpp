// Fisher costs of a bank against what single changes of the model cost when they are measured.

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/bank/build_bank.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/correlation.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/model_evaluator.h"
#include "knapsaq/text/tokenizer.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

TEST(FisherCosts, OrderTheMatricesAsMeasurementsDo) {
  const fs::path assets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";
  const fs::path folder = assets / "wiki-llama-6m";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const Scratch scratch;
  constexpr std::int64_t kWindows = 8;
  constexpr std::int64_t kLength = 128;
  const std::vector<std::int32_t> tokens =
      Tokenizer::load(folder).encode(read_file(assets / "wiki-llama-6m-sample.txt"));
  ASSERT_GE(std::ssize(tokens), 2 * kWindows * kLength);
  // The first half tells the costs, the second one measures.
  Samples samples;
  samples.tokens.assign(tokens.begin(), tokens.begin() + kWindows * kLength);
  samples.options = {.samples = kWindows, .window = kLength, .seed = 0};
  samples.text = "text";
  samples.hash = hash_hex(std::as_bytes(std::span(samples.tokens)));
  const auto backend = make_backend({.precision = Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  const Calibration calibration =
      calibrate(decoder, fingerprint(checkpoint), samples, scratch / "c", false, Progress::none(), kWindows);
  const Menu menu = parse_menu("rtn:b2g64,rtn:b4g64");
  build_bank(checkpoint, {fingerprint(checkpoint), menu, matrices(config), &calibration},
             BankFolder(scratch / "bank"));
  const Bank bank = Bank::open(scratch / "bank");
  const ErrorTable table = bank.table();
  EXPECT_EQ(usual_cost(table), Cost::fisher);
  const SearchSpace space = make_space(table, "none", {}, Cost::fisher, {});

  const std::span<const std::int32_t> measured = std::span(tokens).subspan(
      static_cast<std::size_t>(kWindows * kLength), static_cast<std::size_t>(kWindows * kLength));
  const ReferencedWindows reference =
      reference_windows(decoder, {measured.begin(), measured.end()}, kWindows, kLength);
  ModelEvaluator evaluator(space, bank, reference, decoder, Divergence::kl);
  std::vector<Point> points = {space.largest()};
  std::vector<double> predicted;
  for (std::size_t v = 0; v < space.variables.size(); ++v) {
    points.push_back(space.largest());
    points.back()[v] = 0;
    const std::vector<SpaceLevel>& levels = space.variables[v].levels;
    predicted.push_back(levels.front().error - levels.back().error);
  }
  std::vector<double> found(points.size());
  evaluator.measure(points, {0, kWindows}, [&](std::size_t i, Measurement one) { found[i] = one.kl; });
  std::vector<double> increases;
  for (std::size_t i = 1; i < found.size(); ++i) increases.push_back(found[i] - found[0]);
  EXPECT_GE(spearman(predicted, increases), 0.9);
  // In nats: the estimates are of the size of what is measured.
  std::vector<double> ratios;
  for (std::size_t i = 0; i < increases.size(); ++i) ratios.push_back(increases[i] / predicted[i]);
  std::ranges::sort(ratios);
  EXPECT_GT(ratios[ratios.size() / 2], 0.5);
  EXPECT_LT(ratios[ratios.size() / 2], 3);
}

}  // namespace
}  // namespace knapsaq
