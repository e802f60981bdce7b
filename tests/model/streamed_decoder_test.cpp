// The decoder block by block: loading, observing, and the halves of a block.

#include <cstring>
#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "model/families.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWindows = 3;
constexpr std::int64_t kLength = 17;

std::vector<std::int32_t> random_tokens(std::int64_t vocab) {
  Random random(5);
  std::vector<std::int32_t> tokens(kWindows * kLength);
  for (auto& token : tokens)
    token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab)));
  return tokens;
}

std::vector<float> values_of(Backend& backend, const Array& array, std::int64_t rows) {
  std::vector<float> values(static_cast<std::size_t>(rows * array.cols()));
  backend.download(array, 0, values);
  return values;
}

class StreamedDecoder : public ::testing::TestWithParam<fs::path> {
 protected:
  Checkpoint checkpoint_ = Checkpoint::open(GetParam());
  ModelConfig config_ = parse_model_config(checkpoint_.config());
};

INSTANTIATE_TEST_SUITE_P(Models, StreamedDecoder, ::testing::ValuesIn(all_models()), name_of_folder);

TEST_P(StreamedDecoder, TheInputOfAStageIsWhatObserversSee) {
  const std::vector<std::int32_t> tokens = random_tokens(config_.vocab);
  const auto backend = make_backend({.precision = Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint_, config_, *backend);
  Hidden hidden = decoder.embed(tokens, kWindows, kLength);
  PartialPass pass{decoder.embed(tokens, kWindows, kLength)};
  for (std::int64_t block = 0; block < config_.layers; ++block) {
    // Of experts, which see some tokens each, only how many there are.
    std::map<Stage, std::vector<float>> expected;
    std::map<Role, std::int64_t> rows_of_experts;
    decoder.block(block, hidden, [&](const Matrix& first, const Array& x, std::int64_t rows) {
      if (first.expert >= 0) {
        rows_of_experts[first.role] += rows;
      } else {
        EXPECT_TRUE(expected.emplace(stage_of(first.role), values_of(*backend, x, rows)).second);
      }
    });
    const Experts experts = layer_config(config_, block).experts;
    EXPECT_EQ(expected.size(), experts.count > 0 && experts.shared_ffn == 0 ? 2 : kStages.size());
    EXPECT_EQ(rows_of_experts.size(), experts.count > 0 ? 2 : 0);
    for (const auto& [role, rows] : rows_of_experts) EXPECT_EQ(rows, hidden.tokens() * experts.chosen);
    for (const Stage stage : kStages) {
      if (expected.contains(stage)) {
        EXPECT_EQ(values_of(*backend, decoder.stage_input(block, stage, pass), hidden.tokens()),
                  expected[stage]);
      }
      decoder.run(block, stage, pass);
    }
  }
  EXPECT_THROW(decoder.stage_input(0, Stage::head, pass), std::invalid_argument);
}

TEST_P(StreamedDecoder, EqualsTheWholeOneBitForBit) {
  const std::vector<std::int32_t> tokens = random_tokens(config_.vocab);
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto backend = make_backend({.precision = precision});
    Decoder whole = Decoder::load(checkpoint_, config_, *backend);
    std::vector<float> expected(kWindows * (kLength - 1));
    whole.losses(tokens, kWindows, kLength, expected);

    Decoder streamed = Decoder::open(checkpoint_, config_, *backend);
    streamed.load_embedding(checkpoint_);
    Hidden hidden = streamed.embed(tokens, kWindows, kLength);
    streamed.unload_embedding();
    for (std::int64_t i = 0; i < config_.layers; ++i) {
      streamed.load_block(checkpoint_, i);
      streamed.block(i, hidden);
      streamed.unload_block(i);
    }
    streamed.load_head(checkpoint_);
    std::vector<float> losses(expected.size());
    streamed.head_losses(hidden, tokens, losses);
    EXPECT_EQ(losses, expected);
  }
}

TEST_P(StreamedDecoder, HalvesOfABlockMakeTheBlock) {
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint_, config_, *backend);
  const std::vector<std::int32_t> tokens = random_tokens(config_.vocab);
  Hidden hidden = decoder.embed(tokens, kWindows, kLength);
  const std::vector<float> before = values_of(*backend, hidden.state, hidden.tokens());

  const std::vector<Matrix> names = linears(config_);
  const std::vector<std::size_t> owners = input_owners(names);
  std::map<std::string, Array> inputs;
  decoder.block(0, hidden, [&](const Matrix& first, const Array& x, std::int64_t rows) {
    EXPECT_EQ(x.cols(), first.in);
    if (first.expert < 0) {
      EXPECT_EQ(rows, kWindows * kLength);
    }
    Array wide = backend->upload(values_of(*backend, x, rows), rows, x.cols());
    Array copy = backend->allocate(rows, x.cols(), Element::working);
    backend->convert(wide, rows, copy);
    EXPECT_TRUE(inputs.emplace(first.name, copy).second) << first.name;
  });
  // Exactly the inputs that linears of the block own.
  std::size_t distinct = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].block != 0 || owners[i] != i) continue;
    ++distinct;
    EXPECT_TRUE(inputs.contains(names[i].name)) << names[i].name;
  }
  EXPECT_EQ(inputs.size(), distinct);
  const Experts experts = layer_config(config_, 0).experts;
  EXPECT_EQ(static_cast<std::int64_t>(distinct), experts.count == 0        ? 4
                                                 : experts.shared_ffn == 0 ? 2 + 2 * experts.count
                                                                           : 4 + 2 * experts.count);
  // Elsewhere norms or factors are between the halves and the residual stream.
  if (config_.norms != NormPlacement::before || config_.residual_scale != 1) return;
  PartialPass pass{decoder.embed(tokens, kWindows, kLength)};
  for (const Stage stage : {Stage::attend, Stage::attention_output}) decoder.run(0, stage, pass);
  const std::vector<float> mlp_input =
      values_of(*backend, decoder.stage_input(0, Stage::activate, pass), hidden.tokens());
  Array mlp_x = backend->allocate(hidden.tokens(), config_.hidden, Element::working);
  backend->convert(backend->upload(mlp_input, hidden.tokens(), config_.hidden), hidden.tokens(), mlp_x);

  const auto attention = values_of(
      *backend, decoder.attention_output(0, inputs.at(names[0].name), kWindows, kLength), hidden.tokens());
  const auto mlp = values_of(*backend, decoder.mlp_output(0, mlp_x, hidden.tokens()), hidden.tokens());
  const std::vector<float> after = values_of(*backend, hidden.state, hidden.tokens());
  for (std::size_t i = 0; i < after.size(); ++i) {
    const float sum = (before[i] + attention[i]) + mlp[i];
    // Experts are added one after another.
    if (experts.count == 0) {
      ASSERT_EQ(after[i], sum) << i;
    } else {
      ASSERT_NEAR(after[i], sum, 1e-5) << i;
    }
  }
}

TEST(StreamedDecoderErrors, MissingWeightsAreNoticed) {
  const Checkpoint checkpoint = Checkpoint::open(tiny_model() / "llama2");
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::open(checkpoint, config, *backend);
  const std::vector<std::int32_t> tokens = random_tokens(config.vocab);
  EXPECT_THROW(decoder.embed(tokens, kWindows, kLength), std::logic_error);
  decoder.load_embedding(checkpoint);
  Hidden hidden = decoder.embed(tokens, kWindows, kLength);
  EXPECT_THROW(decoder.block(0, hidden), std::logic_error);
  decoder.load_block(checkpoint, 0);
  decoder.block(0, hidden);
  EXPECT_THROW(decoder.block(1, hidden), std::logic_error);
  std::vector<float> losses(kWindows * (kLength - 1));
  EXPECT_THROW(decoder.head_losses(hidden, tokens, losses), std::logic_error);
  const std::vector<float> weight(40 * 40);
  const TensorView view{DType::F32, {40, 40}, std::as_bytes(std::span(weight))};
  EXPECT_THROW(decoder.replace("model.layers.1.self_attn.q_proj", view), std::logic_error);
}

}  // namespace
}  // namespace knapsaq
