// Decoder::next(): one token at a time against the windowed pass, on every architecture of the references.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/execution.h"
#include "knapsaq/base/random.h"
#include "knapsaq/model/decoder.h"
#include "loaded_model.h"
#include "model/families.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

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

/// Precisions in which two ways to the same logits lead through the same experts.
std::vector<Precision> precisions(const fs::path& folder) {
  if (chooses_experts(folder)) return {Precision::fp32};
  return {Precision::fp32, Precision::bf16};
}

class DecoderNext : public ::testing::TestWithParam<fs::path> {};

// fp32 differs by the order of sums only. bf16: as in DecoderReference, inputs of products are rounded, and
// what differs in the last bit before may be rounded to another neighbour.
TEST_P(DecoderNext, IsTheWindowedPass) {
  for (const std::string& device : devices()) {
    for (const Precision precision : precisions(GetParam())) {
      LoadedModel model(GetParam(), precision, device);
      Decoder& decoder = model.decoder;
      const std::int64_t vocab = decoder.config().vocab;
      // More sequences than a step of rows; lengths beyond a panel of keys and the sliding windows.
      const std::int64_t sequences = 19;
      const std::int64_t length = decoder.config().positions == Positions::learned
                                      ? std::min<std::int64_t>(70, decoder.config().max_positions)
                                      : steady_length(GetParam(), 70);
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

/// Root mean square of the differences, as a share of that of `expected`.
double relative_error(std::span<const float> found, std::span<const float> expected) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(found[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(error / size);
}

// A prompt at once, in pieces, and token by token, from caches of all elements. Tolerances: fp32 as above;
// fp16 keeps keys and values to 2^-11, int8 to about 2^-8 of a head's largest, and what they feed passes
// through several blocks, random ones without the averaging that training brings.
TEST_P(DecoderNext, PromptsInPiecesFromEveryCache) {
  for (const std::string& device : devices()) {
    for (const Precision precision : precisions(GetParam())) {
      LoadedModel model(GetParam(), precision, device);
      Decoder& decoder = model.decoder;
      const std::int64_t sequences = 3;
      const std::int64_t length = decoder.config().positions == Positions::learned
                                      ? std::min<std::int64_t>(70, decoder.config().max_positions)
                                      : steady_length(GetParam(), 70);
      const auto tokens = random_tokens(sequences * length, decoder.config().vocab);
      std::vector<float> expected;
      for (std::int64_t s = 0; s < sequences; ++s) {
        const auto one =
            std::span(tokens).subspan(static_cast<std::size_t>(s * length), static_cast<std::size_t>(length));
        const std::vector<float> logits = decoder.logits(one, length - 1);
        expected.insert(expected.end(), logits.begin(), logits.end());
      }
      for (const CacheElement element : {CacheElement::working, CacheElement::half, CacheElement::int8}) {
        if (element != CacheElement::working && chooses_experts(GetParam())) continue;
        const double of_cache = element == CacheElement::int8   ? 0.03
                                : element == CacheElement::half ? 0.003
                                                                : 1e-5;
        const double tolerance = of_cache + (precision == Precision::fp32 ? 0 : 0.02);
        KeyValueCache cache(decoder.config(), *model.backend, sequences, length + 1, element);
        for (const std::vector<std::int64_t>& pieces :
             {std::vector<std::int64_t>{length}, {length - 1, 1}, {1, 25, 1, 1, length - 28}}) {
          cache.clear();
          std::vector<float> found;
          for (const std::int64_t piece : pieces) {
            std::vector<std::int32_t> some;
            for (std::int64_t s = 0; s < sequences; ++s) {
              const auto from = tokens.begin() + s * length + cache.length();
              some.insert(some.end(), from, from + piece);
            }
            found = decoder.next(some, cache);
          }
          EXPECT_EQ(cache.length(), length);
          EXPECT_LE(relative_error(found, expected), tolerance)
              << model.backend->description() << " element " << static_cast<int>(element) << " pieces "
              << pieces.size();
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderNext, ::testing::ValuesIn(all_models()), name_of_folder);

TEST(DecoderNext, SameLogitsWhateverTheThreadsAndTheNeighbours) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    LoadedModel model(tiny_model() / "llama-gqa", precision);
    const std::int64_t vocab = model.decoder.config().vocab;
    const std::int64_t length = 20;
    auto tokens = random_tokens(16 * length, vocab);
    KeyValueCache cache(model.decoder.config(), *model.backend, 16, length);
    const auto expected = step_by_step(model.decoder, tokens, cache);
    for (const int threads : {1, 3}) {
      work_with_threads(threads);
      cache.clear();  // what lies in it from before must not matter
      EXPECT_EQ(step_by_step(model.decoder, tokens, cache), expected);
    }
    work_with_threads(0);
    // Other tokens in all sequences but the first leave it alone.
    std::reverse(tokens.begin() + length, tokens.end());
    cache.clear();
    const auto others = step_by_step(model.decoder, tokens, cache);
    for (std::size_t t = 0; t < others.size(); ++t)
      EXPECT_TRUE(std::equal(others[t].begin(), others[t].begin() + vocab, expected[t].begin())) << t;
  }
}

// More rows than are computed at once: 3000 tokens are two chunks, of several sequences, too.
TEST(DecoderNext, LongPromptsAreChunked) {
  for (const char* name : {"llama-gqa", "mistral-window"}) {
    for (const CacheElement element : {CacheElement::working, CacheElement::half}) {
      LoadedModel model(tiny_model(name), Precision::fp32);
      const std::int64_t vocab = model.decoder.config().vocab;
      const std::int64_t length = 1500;
      const auto tokens = random_tokens(2 * length, vocab);
      KeyValueCache both(model.decoder.config(), *model.backend, 2, length, element);
      const std::vector<float> found = model.decoder.next(tokens, both);
      KeyValueCache long_one(model.decoder.config(), *model.backend, 1, 2 * length, element);
      const std::vector<float> after_both = model.decoder.next(tokens, long_one);
      const double tolerance = element == CacheElement::working ? 1e-5 : 0.003;
      EXPECT_LE(relative_error(after_both, model.decoder.logits(tokens, 2 * length - 1)), tolerance);
      for (std::int64_t s = 0; s < 2; ++s) {
        const auto one =
            std::span(tokens).subspan(static_cast<std::size_t>(s * length), static_cast<std::size_t>(length));
        const auto of_one =
            std::span(found).subspan(static_cast<std::size_t>(s * vocab), static_cast<std::size_t>(vocab));
        EXPECT_LE(relative_error(of_one, model.decoder.logits(one, length - 1)), tolerance) << name << s;
      }
    }
  }
}

TEST(DecoderNext, ShortenedCachesGoOnFromThere) {
  LoadedModel model(tiny_model() / "llama-gqa", Precision::fp32);
  const auto tokens = random_tokens(40, model.decoder.config().vocab);
  const std::span<const std::int32_t> all(tokens);
  for (const CacheElement element : {CacheElement::working, CacheElement::half, CacheElement::int8}) {
    KeyValueCache cache(model.decoder.config(), *model.backend, 1, 40, element);
    model.decoder.next(all.first(20), cache);
    const std::vector<float> expected = model.decoder.next(all.subspan(20, 5), cache);
    model.decoder.next(all.last(15), cache);
    cache.shorten(20);
    EXPECT_EQ(model.decoder.next(all.subspan(20, 5), cache), expected);
    EXPECT_EQ(cache.length(), 25);
    EXPECT_THROW(cache.shorten(26), std::invalid_argument);
  }
}

TEST(DecoderNext, FailuresLeaveTheCacheAsItWas) {
  LoadedModel model(tiny_model() / "llama-gqa", Precision::fp32);
  const auto tokens = random_tokens(40, model.decoder.config().vocab);
  const std::span<const std::int32_t> all(tokens);
  KeyValueCache cache(model.decoder.config(), *model.backend, 1, 40, CacheElement::half);
  model.decoder.next(all.first(10), cache);
  {
    Cancellation cancellation;
    cancellation.request();
    const ExecutionScope scope({.cancellation = &cancellation});
    EXPECT_THROW(model.decoder.next(all.subspan(10, 7), cache), Cancelled);
    EXPECT_EQ(cache.length(), 10);
  }
  // The last block's weights are missing: all others have run.
  model.decoder.unload_block(model.decoder.config().layers - 1);
  EXPECT_THROW(model.decoder.next(all.subspan(10, 7), cache), std::logic_error);
  EXPECT_EQ(cache.length(), 10);
  model.decoder.load_block(model.checkpoint, model.decoder.config().layers - 1);
  const std::vector<float> found = model.decoder.next(all.subspan(10, 7), cache);
  cache.clear();
  model.decoder.next(all.first(10), cache);
  EXPECT_EQ(found, model.decoder.next(all.subspan(10, 7), cache));
}

TEST(KeyValueCache, KnowsItsSizeBeforehand) {
  LoadedModel model(tiny_model() / "llama-d64", Precision::fp32, "cpu:portable");
  const ModelConfig& config = model.decoder.config();
  for (const CacheElement element : {CacheElement::working, CacheElement::half, CacheElement::int8}) {
    const KeyValueCache cache(config, *model.backend, 3, 128, element);
    EXPECT_EQ(KeyValueCache::bytes(config, element, 3, 128), cache.bytes());
    // Padding to whole panels is all that may come on top.
    const KeyValueCache odd(config, *model.backend, 3, 121, element);
    EXPECT_GE(odd.bytes(), KeyValueCache::bytes(config, element, 3, 121));
    EXPECT_LE(odd.bytes(), cache.bytes());
  }
}

TEST(KeyValueCache, RefusesWhatMemoryCannotHold) {
  ModelConfig config;
  config.layers = 32;
  config.kv_heads = 8;
  config.head_dim = 128;
  const std::uint64_t needed = KeyValueCache::bytes(config, CacheElement::half, 1, 32768);
  EXPECT_EQ(needed, std::uint64_t{4} << 30);
  EXPECT_NO_THROW(check_cache_memory(config, CacheElement::half, 1, 32768, needed));
  EXPECT_NO_THROW(check_cache_memory(config, CacheElement::half, 1, 32768, std::nullopt));
  try {
    check_cache_memory(config, CacheElement::half, 1, 32768, needed - 1);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("32768 tokens"), std::string::npos) << what;
    EXPECT_NE(what.find("smaller --context"), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
  // Sizes beyond 64 bits do not come back as small ones.
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  EXPECT_THROW(check_cache_memory(config, CacheElement::int8, 4, huge, std::uint64_t{1} << 60), InputError);
}

TEST(DecoderNext, RefusesWhatDoesNotFit) {
  LoadedModel model(tiny_model() / "opt", Precision::fp32);
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
