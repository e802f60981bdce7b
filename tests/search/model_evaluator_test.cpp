// Points of a space measured by running the model, against a decoder with the bank's matrices in it.

#include "knapsaq/search/model_evaluator.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "huge_weight.h"
#include "knapsaq/bank/build_bank.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/text/tokenizer.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

TEST(ModelEvaluator, MeasuresTheBanksModels) {
  const fs::path assets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";
  const fs::path folder = assets / "wiki-opt-3m";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const Scratch scratch;
  const Menu menu = parse_menu("rtn:b2g64,rtn:b4g64");
  build_bank(checkpoint, {fingerprint(checkpoint), menu, matrices(config)}, BankFolder(scratch / "bank"));
  const Bank bank = Bank::open(scratch / "bank");

  // Two variables: the embedding and the first block, and the rest. A third choice is the second one once
  // more.
  SearchSpace space;
  const std::vector<Matrix> all = matrices(config);
  space.menu = {menu.schemes[0], menu.schemes[1], menu.schemes[1]};
  for (const Matrix& linear : all) {
    space.linears.push_back(linear.name);
    space.schemes.push_back(space.menu);
  }
  space.variables.resize(2);
  for (std::size_t i = 0; i < all.size(); ++i)
    space.variables[all[i].block <= 0 ? 0 : 1].linears.push_back(i);
  for (Variable& variable : space.variables)
    variable.levels = {SpaceLevel{.choice = 0}, SpaceLevel{.choice = 1}, SpaceLevel{.choice = 2}};

  const std::int64_t length = 64;
  const std::int64_t windows = 3;
  std::vector<std::int32_t> tokens =
      Tokenizer::load(folder).encode(read_file(assets / "wiki-opt-3m-sample.txt"));
  tokens.resize(static_cast<std::size_t>(windows * length));
  const auto backend = make_backend({.precision = Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend, bank.folding(config));
  const ReferencedWindows reference = reference_windows(decoder, tokens, windows, length);
  const std::vector<Point> points = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 2}};

  for (const Divergence divergence : {Divergence::kl, Divergence::jsd}) {
    Decoder candidate = Decoder::load(checkpoint, config, *backend);
    ModelEvaluator evaluator(space, bank, reference, candidate, divergence);
    EXPECT_EQ(evaluator.windows(), windows);
    EXPECT_EQ(evaluator.targets(), length - 1);
    const WindowRange range{1, 3};
    std::vector<Measurement> found(points.size());
    evaluator.measure(points, range, [&](std::size_t i, Measurement one) { found[i] = std::move(one); });
    for (std::size_t i = 0; i < points.size(); ++i) {
      Decoder alone = Decoder::load(checkpoint, config, *backend);
      const std::vector<std::size_t> choices = space.choices(points[i]);
      for (std::size_t l = 0; l < all.size(); ++l)
        alone.replace(all[l].name, bank.matrix(all[l].name, space.menu[choices[l]]));
      std::vector<float> losses(static_cast<std::size_t>(2 * (length - 1)));
      alone.losses(std::span(tokens).subspan(static_cast<std::size_t>(length)), 2, length, losses);
      double loss = 0;
      for (const float one : losses) loss += one;
      EXPECT_NEAR(found[i].loss, loss / static_cast<double>(losses.size()), 1e-6);
      EXPECT_EQ(found[i].windows, 2);
      EXPECT_EQ(found[i].tokens, 2 * (length - 1));
      EXPECT_EQ(std::ssize(found[i].per_token), found[i].tokens);
      EXPECT_EQ(std::isnan(found[i].jsd), divergence == Divergence::kl);
      double mean = 0;
      for (const float one : found[i].per_token) mean += one;
      EXPECT_NEAR(found[i].value(divergence), mean / static_cast<double>(found[i].tokens), 1e-12);
    }
    EXPECT_GT(found[0].kl, found[1].kl);
    EXPECT_GT(found[1].kl, found[3].kl);
    EXPECT_EQ(found[3].per_token, found[4].per_token);
    // The repeated choice is no other one: it costs nothing, and of the pairs one shares the first block.
    EXPECT_DOUBLE_EQ(evaluator.cost(points, {0, 3}), evaluator.cost(std::span(points).first(4), {0, 3}));
    EXPECT_DOUBLE_EQ(evaluator.cost(std::span(points).first(1), range), 2.0 / 3);
    EXPECT_LT(evaluator.cost(std::span(points).first(4), {0, 3}), 4);
  }
}

/// A head whose logits overflow: what it multiplies is finite, so only a comparison finds it. No candidate
/// can be judged by such a model, and none is blamed for it.
TEST(ModelEvaluator, AReferenceThatIsNotFiniteIsAnError) {
  const Scratch scratch;
  copy_with_huge_weight(fs::path(KNAPSAQ_TEST_DATA) / "model/decoder/llama-gqa", scratch / "model",
                        "lm_head.weight");
  const Checkpoint checkpoint = Checkpoint::open(scratch / "model");
  const ModelConfig config = parse_model_config(checkpoint.config());
  const Menu menu = parse_menu("rtn:b4g32,rtn:b8g32");
  build_bank(checkpoint, {fingerprint(checkpoint), menu, linears(config)}, BankFolder(scratch / "bank"));
  const Bank bank = Bank::open(scratch / "bank");
  const ErrorTable table = bank.table();
  const SearchSpace space =
      make_space(table, "none", {}, Cost::fnorm, quantized_file_sizes(checkpoint, config, table));
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  const ReferencedWindows reference = reference_windows(decoder, {1, 2, 3, 4, 5, 6, 7, 8}, 2, 4);
  ModelEvaluator evaluator(space, bank, reference, decoder, Divergence::kl);
  EXPECT_THROW(evaluator.reference({0, 2}), NotFiniteError);
  const Point point = space.largest();
  try {
    evaluator.measure({&point, 1}, {0, 2}, [](std::size_t, const Measurement&) { FAIL() << "told"; });
    FAIL();
  } catch (const NotFiniteError& error) {
    EXPECT_NE(std::string(error.what()).find("output head"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace knapsaq
