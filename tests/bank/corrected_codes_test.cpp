#include "knapsaq/bank/corrected_codes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/random.h"
#include "knapsaq/calib/calibrator.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/tokenizer.h"
#include "quant/made_inputs.h"
#include "random_model.h"
#include "scratch.h"
#include "test_models.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// The bytes of the files in a folder, by name.
std::map<std::string, std::string> content_of(const fs::path& folder) {
  std::map<std::string, std::string> content;
  for (const auto& entry : fs::directory_iterator(folder))
    content[entry.path().filename().string()] = read_file(entry.path());
  return content;
}

std::string bytes_of_codes(const StoredMatrix& stored) {
  std::string all;
  for (const std::span<const std::byte> part : bytes_of(stored))
    all.append(reinterpret_cast<const char*>(part.data()), part.size());
  return all;
}

/// A model, and windows of tokens for it.
struct Model {
  Model(const fs::path& folder, std::int64_t windows, std::int64_t length,
        Precision precision = Precision::fp32)
      : checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        backend(make_backend({.precision = precision})) {
    Random random(7);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(windows * length));
    for (std::int32_t& token : tokens)
      token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(config.vocab)));
    samples = make_samples(std::move(tokens), {.samples = windows, .window = length}, "random");
  }

  std::vector<LinearFile> correct(const fs::path& folder, std::span<const MatrixScheme> allocation,
                                  double most_share = 1, const Folding* folding = nullptr) {
    return correct_codes(
        checkpoint, config,
        {.model = "fingerprint",
         .allocation = allocation,
         .embedding = [&](const Matrix& matrix, const Scheme& scheme) { return rounded(matrix, scheme); },
         .samples = samples,
         .folding = folding,
         .outputs = outputs,
         .most_share = most_share},
        *backend, folder);
  }
  StoredMatrix rounded(const Matrix& matrix, const Scheme& scheme) const {
    const std::vector<float> values = checkpoint.floats(matrix.name + ".weight");
    return quantize({matrix.out, matrix.in, values}, scheme, nullptr);
  }

  Checkpoint checkpoint;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  Samples samples;
  const InputSource* outputs = nullptr;
};

/// A model of random weights.
struct RandomModel {
  explicit RandomModel(const nlohmann::json& config) { write_random_model(scratch / "model", config); }
  Scratch scratch;
  Model model() const { return {scratch / "model", 6, 24}; }
};

/// What GPTQ makes of every linear of `allocation` with the inputs of the model as quantized so far, by the
/// decoder alone.
std::vector<StoredMatrix> propagated(const Model& model, std::span<const MatrixScheme> allocation) {
  Decoder decoder = Decoder::load(model.checkpoint, model.config, *model.backend);
  std::vector<StoredMatrix> all;
  for (const MatrixScheme& one : allocation) {
    if (!one.matrix.in_block()) {
      all.push_back(model.rounded(one.matrix, one.scheme));
      decoder.replace(one.matrix.name, all.back());
      continue;
    }
    ObservedInput input{one.matrix, InputSums(one.matrix.in), 0};
    // All but the last quarter, then the rest: sums in another order have other last bits.
    const std::int64_t length = model.samples.options.window;
    const std::int64_t judge = model.samples.options.samples / 4;
    std::span<const std::int32_t> tokens = model.samples.tokens;
    for (const std::int64_t count : {model.samples.options.samples - judge, judge}) {
      const std::span part = tokens.first(static_cast<std::size_t>(count * length));
      tokens = tokens.subspan(part.size());
      Hidden hidden = decoder.embed(part, count, length);
      for (std::int64_t block = 0; block <= one.matrix.block; ++block)
        decoder.block(block, hidden, [&](const Matrix& matrix, const Array& x, std::int64_t rows) {
          if (matrix.block == one.matrix.block && stage_of(matrix.role) == stage_of(one.matrix.role))
            model.backend->sum_inputs(x, rows, input.sums);
        });
    }
    const std::vector<float> values = model.checkpoint.floats(one.matrix.name + ".weight");
    const InputStatistics statistics = statistics_of(input);
    all.push_back(quantize({one.matrix.out, one.matrix.in, values}, one.scheme, &statistics));
    decoder.replace(one.matrix.name, all.back());
  }
  return all;
}

TEST(CorrectedCodes, WithoutCorrectionAreThoseOfTheInputsOfTheModelAsQuantizedSoFar) {
  for (const auto& config : {random_llama(false), random_llama(true), random_opt()}) {
    const RandomModel random(config);
    Model model = random.model();
    for (const bool with_embedding : {false, true}) {
      std::vector<MatrixScheme> allocation =
          uniform_allocation(linears(model.config), parse_scheme("gptq:b3g32"));
      if (with_embedding)
        allocation.insert(allocation.begin(), {matrices(model.config).front(), parse_scheme("rtn:b2g32")});
      const std::vector<StoredMatrix> expected = propagated(model, allocation);
      const std::vector<LinearFile> files =
          model.correct(random.scratch / (with_embedding ? "e" : "l"), allocation, 0);
      const std::size_t skipped = with_embedding ? 1 : 0;
      ASSERT_EQ(files.size() + skipped, expected.size());
      for (std::size_t i = 0; i < files.size(); ++i)
        EXPECT_TRUE(bytes_of_codes(files[i].matrix(0)) == bytes_of_codes(expected[i + skipped]))
            << allocation[i + skipped].matrix.name;
    }
  }
}

TEST(CorrectedCodes, OfFoldedWeightsAreThoseOfTheFoldedModel) {
  const RandomModel random(random_llama(false));
  Model model = random.model();
  Folding folding(model.config, "fingerprint", "made");
  for (const FoldPoint& point : fold_points(model.config)) {
    std::vector<float> scales(static_cast<std::size_t>(point.width));
    // Powers of two: what is folded is exact.
    for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = std::ldexp(1.0f, static_cast<int>(i % 3) - 1);
    folding.set(point.name, scales);
  }
  const auto allocation = uniform_allocation(linears(model.config), parse_scheme("rtn:b3g32"));
  const std::vector<LinearFile> files = model.correct(random.scratch / "out", allocation, 0, &folding);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Matrix& matrix = allocation[i].matrix;
    std::vector<float> values = model.checkpoint.floats(matrix.name + ".weight");
    folding.apply(matrix.name + ".weight", values);
    EXPECT_TRUE(bytes_of_codes(files[i].matrix(0)) ==
                bytes_of_codes(quantize({matrix.out, matrix.in, values}, allocation[i].scheme, nullptr)))
        << matrix.name;
  }
}

TEST(CorrectedCodes, OfEveryFormAreTheSameWithAnyNumberOfThreadsAndAfterAnyInterruption) {
  const RandomModel random(random_llama(true, 256));
  Model model = random.model();
  const std::vector<std::string> schemes = {"gptq:b3g64/m8g128", "q4_k",      "q8_0", "nf4",
                                            "hqq:b4g64",         "gptq:b2g32"};
  std::vector<MatrixScheme> allocation;
  for (const Matrix& matrix : matrices(model.config))
    if (matrix.number % 7 != 5)  // some are not quantized at all
      allocation.push_back({matrix, parse_scheme(schemes[matrix.number % schemes.size()])});
  allocation.front().scheme = parse_scheme("rtn:b4g64");
  work_with_threads(1);
  model.correct(random.scratch / "one", allocation);
  const auto expected = content_of(random.scratch / "one");
  EXPECT_EQ(expected.size(), allocation.size() - 1);
  work_with_threads(3);
  model.correct(random.scratch / "three", allocation);
  EXPECT_TRUE(content_of(random.scratch / "three") == expected);
  work_with_threads(0);

  // As a kill leaves it: some are there, one of them damaged, one half written.
  std::size_t number = 0;
  for (const auto& [name, bytes] : expected) {
    const fs::path path = random.scratch / "three" / name;
    if (number % 3 == 1) fs::remove(path);
    if (number == 3) write_file(path, bytes.substr(0, bytes.size() / 2));
    if (number == 4) write_file(path.string() + ".partial-1", "half");
    ++number;
  }
  model.correct(random.scratch / "three", allocation);
  fs::remove((random.scratch / "three" / std::next(expected.begin(), 4)->first).string() + ".partial-1");
  EXPECT_TRUE(content_of(random.scratch / "three") == expected);

  // Finished ones are not made again, ...
  const fs::path first = random.scratch / "three" / expected.begin()->first;
  const auto made = fs::last_write_time(first);
  model.correct(random.scratch / "three", allocation);
  EXPECT_EQ(fs::last_write_time(first), made);
  // ... unless they are others: another share, or another embedding.
  model.correct(random.scratch / "three", allocation, 0.5);
  EXPECT_TRUE(content_of(random.scratch / "three") != expected);
  allocation.front().scheme = parse_scheme("rtn:b2g64");
  model.correct(random.scratch / "three", allocation);
  for (const auto& [name, bytes] : content_of(random.scratch / "three"))
    EXPECT_TRUE(bytes != expected.at(name)) << name;
}

/// KL of the decoder's predictions from those of `full`, per token.
double divergence(Decoder& decoder, std::span<const std::vector<float>> full,
                  std::span<const std::int32_t> tokens, std::int64_t length) {
  const auto vocab = static_cast<std::size_t>(decoder.config().vocab);
  const auto log_sum = [&](std::span<const float> row) {
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x));
    return std::log(sum);
  };
  double kl = 0;
  std::size_t count = 0;
  for (std::size_t w = 0; w < full.size(); ++w) {
    const std::vector<float> logits = decoder.logits(
        tokens.subspan(w * static_cast<std::size_t>(length), static_cast<std::size_t>(length)), 0);
    for (std::size_t at = 0; at < logits.size(); at += vocab) {
      const std::span p = std::span(full[w]).subspan(at, vocab);
      const std::span q = std::span(logits).subspan(at, vocab);
      const double p_sum = log_sum(p);
      const double q_sum = log_sum(q);
      for (std::size_t i = 0; i < vocab; ++i) {
        const double log_p = static_cast<double>(p[i]) - p_sum;
        kl += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_sum));
      }
      ++count;
    }
  }
  return kl / static_cast<double>(count);
}

TEST(CorrectedCodes, LowerTheDivergenceOfEmbeddedModelsOnOtherText) {
  for (const std::string name : {"wiki-llama-6m", "wiki-opt-3m"}) {
    Scratch scratch;
    Model model(asset(name), 1, 2, Precision::bf16);
    const Tokenizer tokenizer = Tokenizer::load(asset(name));
    const fs::path text[] = {asset(name + "-sample.txt")};
    constexpr std::int64_t kLength = 128;
    // Four windows to judge by are the text's last.
    const Samples all =
        sample_windows(read_calibration_text(text), tokenizer, {.samples = 28, .window = kLength});
    constexpr std::size_t kFit = 24 * kLength;
    model.samples = make_samples({all.tokens.begin(), all.tokens.begin() + kFit},
                                 {.samples = 24, .window = kLength}, "sample");
    const std::span judged = std::span(all.tokens).subspan(kFit);
    Decoder decoder = Decoder::load(model.checkpoint, model.config, *model.backend);
    std::vector<std::vector<float>> full;
    for (std::size_t w = 0; w < 4; ++w)
      full.push_back(decoder.logits(judged.subspan(w * kLength, kLength), 0));
    const auto allocation = uniform_allocation(linears(model.config), parse_scheme("gptq:b3g64"));
    const auto measured = [&](const std::string& folder, double most_share) {
      const std::vector<LinearFile> files = model.correct(scratch / folder, allocation, most_share);
      for (std::size_t i = 0; i < files.size(); ++i)
        decoder.replace(allocation[i].matrix.name, files[i].matrix(0));
      return divergence(decoder, full, judged, kLength);
    };
    EXPECT_LT(measured("corrected", 1), 0.9 * measured("plain", 0)) << name;
  }
}

/// Gradients by outputs, a few of which matter most.
class MadeOutputs final : public InputSource {
 public:
  InputStatistics inputs(std::string_view, std::int64_t) const override { return {}; }
  bool has_second_moments() const override { return false; }
  std::string identity() const override { return "made"; }
  bool has_outputs() const override { return true; }
  std::optional<OutputStatistics> outputs(std::string_view matrix, std::int64_t width) const override {
    const InputStatistics made = made_inputs(width, 4 * width, 11);
    return OutputStatistics{std::string(matrix), width, made.tokens, made.mean_square, made.second_moment};
  }
};

TEST(CorrectedCodes, WeighOutputsWhereTheMethodDoes) {
  const RandomModel random(random_llama(false));
  Model model = random.model();
  const MadeOutputs outputs;
  std::vector<MatrixScheme> allocation =
      uniform_allocation(linears(model.config), parse_scheme("gptq:b2g32"));
  model.correct(random.scratch / "out", allocation);
  const auto without = content_of(random.scratch / "out");
  model.outputs = &outputs;
  // The others' files are not taken for these.
  const std::vector<LinearFile> files = model.correct(random.scratch / "out", allocation);
  // Nothing is to be corrected before the first matrix: its codes are GPTQ's otherwise.
  EXPECT_TRUE(bytes_of_codes(files[0].matrix(0)) !=
              bytes_of_codes(propagated(model, std::span(allocation).first(1)).front()));
  model.outputs = nullptr;
  model.correct(random.scratch / "out", allocation);
  EXPECT_TRUE(content_of(random.scratch / "out") == without);

  allocation = uniform_allocation(linears(model.config), parse_scheme("hqq:b2g32"));
  const auto codes = [&](const std::string& name, const InputSource* source) {
    model.outputs = source;
    std::string all;
    for (const LinearFile& file : model.correct(random.scratch / name, allocation))
      all += bytes_of_codes(file.matrix(0));
    return all;
  };
  EXPECT_TRUE(codes("with", &outputs) == codes("without", nullptr));
}

TEST(CorrectedCodes, AreRefusedForWhatCannotBeQuantized) {
  const RandomModel random(random_llama(false));
  Model model = random.model();
  EXPECT_THROW(model.correct(random.scratch / "out",
                             uniform_allocation(linears(model.config), parse_scheme("gptq:b3g48"))),
               UsageError);
  EXPECT_FALSE(fs::exists(random.scratch / "out"));
}

}  // namespace
}  // namespace knapsaq
