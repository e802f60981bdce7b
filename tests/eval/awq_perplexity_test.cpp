// The order that everybody expects at 3 bits, on the embedded models: round-to-nearest worse than AWQ.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/bank/find_folding.h"
#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/base/files.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/quant/quantizer.h"
#include "measured_inputs.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

class AwqPerplexity : public ::testing::TestWithParam<const char*> {};

TEST_P(AwqPerplexity, IsBelowThatOfRoundToNearestAtThreeBits) {
  const fs::path assets = fs::path(KNAPSAQ_SOURCE_DIR) / "assets";
  const fs::path folder = assets / GetParam();
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::bf16});
  const std::vector<std::int32_t> tokens =
      Tokenizer::load(folder).encode(read_file(assets / (std::string(GetParam()) + "-sample.txt")));

  // The first 8 windows are calibrated on, the rest is scored.
  constexpr std::int64_t kWindow = 256;
  constexpr std::int64_t kCalibrated = 8;
  Samples samples;
  samples.options.samples = kCalibrated;
  samples.options.window = kWindow;
  samples.tokens.assign(tokens.begin(), tokens.begin() + kCalibrated * kWindow);
  const std::vector<std::int32_t> scored(tokens.begin() + kCalibrated * kWindow, tokens.end());

  const MeasuredInputs inputs(checkpoint, config, samples, *backend);
  const Folding folding =
      find_folding(checkpoint, config, "fingerprint", inputs, samples, parse_scheme("rtn:b3g128"), *backend);
  EXPECT_FALSE(folding.empty());

  const auto perplexity_of = [&](const Folding& used, const Scheme& scheme) {
    const Scratch scratch;
    std::vector<TensorSpec> specs;
    for (const std::string& name : checkpoint.names())
      specs.push_back({name, DType::F32, checkpoint.tensor(name).shape});
    SafetensorsWriter writer(scratch / "model.safetensors", specs);
    for (const std::string& name : checkpoint.names()) {
      std::vector<float> values = checkpoint.floats(name);
      used.apply(name, values);
      writer.write(std::as_bytes(std::span(values)));
    }
    writer.commit();
    write_file(scratch / "config.json", read_file(folder / "config.json"));
    const Checkpoint folded = Checkpoint::open(scratch.path());
    const FoldedInputs folded_inputs(inputs, used);
    Decoder decoder = Decoder::load(folded, config, *backend);
    for (const Matrix& linear : linears(config)) {
      const std::vector<float> weights = folded.floats(linear.name + ".weight");
      const InputStatistics statistics = folded_inputs.inputs(linear.name, linear.in);
      decoder.replace(linear.name, quantize({linear.out, linear.in, weights}, scheme, &statistics));
    }
    WindowOptions options;
    options.window = kWindow;
    options.limit = 32;
    const LossFunction losses = [&](auto some, std::int64_t windows, std::int64_t length, auto out) {
      decoder.losses(some, windows, length, out);
    };
    return perplexity(scored, resolve(options, config.max_positions), {}, losses).perplexity;
  };
  const double rtn = perplexity_of({}, parse_scheme("rtn:b3g128"));
  const double awq = perplexity_of(folding, parse_scheme("awq:b3g128"));
  // Random scales instead of those found move the perplexity of round-to-nearest by 0.05 %
  // (wiki-llama-6m) and 1 % (wiki-opt-3m); AWQ gains 1.6 and 3 %.
  EXPECT_LT(awq, 0.99 * rtn);
  RecordProperty("rtn", std::to_string(rtn));
  RecordProperty("awq", std::to_string(awq));
}

INSTANTIATE_TEST_SUITE_P(Models, AwqPerplexity, ::testing::Values("wiki-llama-6m", "wiki-opt-3m"),
                         [](const auto& tested) { return std::string(tested.param).substr(5, 3); });

}  // namespace
}  // namespace knapsaq
