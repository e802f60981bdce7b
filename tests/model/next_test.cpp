// Decoder::next(): one token at a time against the windowed pass, on every architecture of the references.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

fs::path models_folder() { return fs::path(KNAPSAQ_TEST_DATA) / "model" / "decoder"; }

std::vector<fs::path> models() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(models_folder())) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

struct Loaded {
  Loaded(const fs::path& folder, Precision precision, CpuKernels kernels = best_cpu_kernels())
      : checkpoint(Checkpoint::open(folder)),
        backend(make_cpu_backend(precision, kernels)),
        decoder(Decoder::load(checkpoint, parse_model_config(checkpoint.config()), *backend)) {}
  Checkpoint checkpoint;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
};

std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab) {
  Random random(11);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (auto& token : tokens)
    token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab)));
  return tokens;
}

/// Logits [length][sequences * V] of `tokens` [sequences * length], step by step.
std::vector<std::vector<float>> step_by_step(Decoder& decoder, const std::vector<std::int32_t>& tokens,
                                             KeyValueCache& cache) {
  const std::int64_t length = std::ssize(tokens) / cache.sequences();
  std::vector<std::vector<float>> all;
  for (std::int64_t t = 0; t < length; ++t) {
    std::vector<std::int32_t> column;
    for (std::int64_t s = 0; s < cache.sequences(); ++s)
      column.push_back(tokens[static_cast<std::size_t>(s * length + t)]);
    all.push_back(decoder.next(column, cache));
  }
  return all;
}

class DecoderNext : public ::testing::TestWithParam<fs::path> {};

// fp32 differs by the order of sums only. bf16: as in DecoderReference, inputs of products are rounded, and
// what differs in the last bit before may be rounded to another neighbour.
TEST_P(DecoderNext, IsTheWindowedPass) {
  for (const CpuKernels kernels : {CpuKernels::portable, CpuKernels::avx2, CpuKernels::avx512_bf16}) {
    if (kernels > best_cpu_kernels()) continue;
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      Loaded model(GetParam(), precision, kernels);
      Decoder& decoder = model.decoder;
      const std::int64_t vocab = decoder.config().vocab;
      // More sequences than a step of rows; lengths beyond a panel of keys and the sliding windows.
      const std::int64_t sequences = 19;
      const std::int64_t length = decoder.config().positions == Positions::learned
                                      ? std::min<std::int64_t>(70, decoder.config().max_positions)
                                      : 70;
      const auto tokens = random_tokens(sequences * length, vocab);
      KeyValueCache cache(decoder.config(), *model.backend, sequences, length);
      const auto steps = step_by_step(decoder, tokens, cache);
      EXPECT_EQ(cache.length(), length);
      for (const std::int64_t s : {std::int64_t{0}, std::int64_t{7}, sequences - 1}) {
        const auto one =
            std::span(tokens).subspan(static_cast<std::size_t>(s * length), static_cast<std::size_t>(length));
        const std::vector<float> expected = decoder.logits(one, 0);
        double error = 0;
        double size = 0;
        float worst = 0;
        float largest = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const std::size_t t = i / static_cast<std::size_t>(vocab);
          const std::size_t at = static_cast<std::size_t>(s * vocab) + i % static_cast<std::size_t>(vocab);
          const float difference = steps[t][at] - expected[i];
          error += std::pow(difference, 2);
          size += std::pow(expected[i], 2);
          worst = std::max(worst, std::abs(difference));
          largest = std::max(largest, std::abs(expected[i]));
        }
        if (precision == Precision::fp32) {
          EXPECT_LE(worst, 1e-5f * largest) << model.backend->description();
        } else {
          EXPECT_LE(std::sqrt(error / size), 0.02) << model.backend->description();
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderNext, ::testing::ValuesIn(models()), [](const auto& test) {
  std::string name = test.param.filename().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(DecoderNext, SameLogitsWhateverTheThreadsAndTheNeighbours) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    Loaded model(models_folder() / "llama-gqa", precision);
    const std::int64_t vocab = model.decoder.config().vocab;
    const std::int64_t length = 20;
    auto tokens = random_tokens(16 * length, vocab);
    KeyValueCache cache(model.decoder.config(), *model.backend, 16, length);
    const auto expected = step_by_step(model.decoder, tokens, cache);
    for (const int threads : {1, 3}) {
      set_default_threads(threads);
      cache.clear();  // what lies in it from before must not matter
      EXPECT_EQ(step_by_step(model.decoder, tokens, cache), expected);
    }
    set_default_threads(0);
    // Other tokens in all sequences but the first leave it alone.
    std::reverse(tokens.begin() + length, tokens.end());
    cache.clear();
    const auto others = step_by_step(model.decoder, tokens, cache);
    for (std::size_t t = 0; t < others.size(); ++t)
      EXPECT_TRUE(std::equal(others[t].begin(), others[t].begin() + vocab, expected[t].begin())) << t;
  }
}

TEST(DecoderNext, RefusesWhatDoesNotFit) {
  Loaded model(models_folder() / "opt", Precision::fp32);
  KeyValueCache cache(model.decoder.config(), *model.backend, 2, 1);
  const std::vector<std::int32_t> one = {1};
  const std::vector<std::int32_t> two = {1, 2};
  const std::vector<std::int32_t> outside = {1, -1};
  EXPECT_THROW(model.decoder.next(one, cache), std::invalid_argument);
  EXPECT_THROW(model.decoder.next(outside, cache), InputError);
  EXPECT_EQ(cache.length(), 0);
  model.decoder.next(two, cache);
  EXPECT_THROW(model.decoder.next(two, cache), std::invalid_argument);
  // Beyond the learned positions, but the windowed pass goes on as before.
  const std::int64_t positions = model.decoder.config().max_positions;
  KeyValueCache longer(model.decoder.config(), *model.backend, 2, positions + 1);
  for (std::int64_t i = 0; i < positions; ++i) model.decoder.next(two, longer);
  EXPECT_THROW(model.decoder.next(two, longer), InputError);
  EXPECT_EQ(model.decoder.logits(two, 0).size(), static_cast<std::size_t>(2 * model.decoder.config().vocab));
}

}  // namespace
}  // namespace knapsaq
