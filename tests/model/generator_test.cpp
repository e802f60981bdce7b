// Generation against plain loops over Decoder::logits(), on the embedded models.

#include "knapsaq/model/generator.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "loaded_model.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

const Ids kPrompt = {464, 17, 901, 33, 5};

std::int32_t most_likely(const std::vector<float>& logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class GeneratorOn : public ::testing::TestWithParam<const char*> {};

TEST_P(GeneratorOn, GreedyIsTheArgmaxOfTheWholePass) {
  LoadedModel model(asset(GetParam()));
  Ids expected = kPrompt;
  for (int i = 0; i < 200; ++i)
    expected.push_back(most_likely(model.decoder.logits(expected, std::ssize(expected) - 1)));
  Generator generator(model.decoder, 256, CacheElement::working);
  Ids heard;
  const Generated result =
      generator.generate(kPrompt, {.max_tokens = 200}, [&](std::int32_t token) { heard.push_back(token); });
  EXPECT_EQ(result.tokens, Ids(expected.begin() + std::ssize(kPrompt), expected.end()));
  EXPECT_EQ(heard, result.tokens);
  EXPECT_EQ(result.reason, StopReason::length);
  EXPECT_EQ(result.prompt_tokens, std::ssize(kPrompt));
  EXPECT_EQ(result.steps, 199);
  EXPECT_GT(result.prompt_seconds, 0);
  EXPECT_GT(result.step_seconds, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, GeneratorOn, ::testing::Values("wiki-llama-6m", "wiki-opt-3m"),
                         [](const auto& test) { return std::string(test.param).substr(5, 3); });

TEST(Generator, SameSeedSameTextWhateverTheThreads) {
  LoadedModel model(asset("wiki-llama-6m"), Precision::bf16);
  const auto text = [&](std::uint64_t seed) {
    Generator generator(model.decoder, 64, CacheElement::working);
    return generator
        .generate(kPrompt, {.sampler = {.temperature = 1, .top_p = 0.95, .seed = seed}, .max_tokens = 50})
        .tokens;
  };
  work_with_threads(1);
  const Ids one = text(4);
  EXPECT_NE(text(5), one);
  work_with_threads(3);
  EXPECT_EQ(text(4), one);
  work_with_threads(0);
}

TEST(Generator, EndsWhereItIsTold) {
  LoadedModel model(asset("wiki-llama-6m"));
  Generator generator(model.decoder, 20, CacheElement::working);
  const GenerationOptions much{.max_tokens = 100};
  const Generated full = generator.generate(kPrompt, much);
  EXPECT_EQ(full.reason, StopReason::context);
  ASSERT_EQ(full.tokens.size(), 15U);  // prompt and text together fill it
  // A stop token ends the text before it.
  GenerationOptions stopping = much;
  stopping.stop = {-1, full.tokens[7]};
  const auto first = std::find(full.tokens.begin(), full.tokens.end(), full.tokens[7]);
  const Generated stopped = generator.generate(kPrompt, stopping);
  EXPECT_EQ(stopped.reason, StopReason::stop);
  EXPECT_EQ(stopped.tokens, Ids(full.tokens.begin(), first));
  EXPECT_EQ(generator.generate(kPrompt, {.max_tokens = 3}).tokens.size(), 3U);
  // Ids behind the vocabulary are never drawn.
  const Generated small = generator.generate(kPrompt, {.max_tokens = 10, .vocabulary = 50});
  EXPECT_LT(*std::max_element(small.tokens.begin(), small.tokens.end()), 50);
  // Nor are those below it that have no token.
  std::vector<std::int32_t> unused;
  for (std::int32_t id = 0; id < 50; ++id)
    if (id % 7 != 3) unused.push_back(id);
  const Generated rest = generator.generate(kPrompt, {.max_tokens = 10, .vocabulary = 50, .unused = unused});
  for (const std::int32_t id : rest.tokens) EXPECT_EQ(id % 7, 3);
}

TEST(Generator, GoesOnFromWhatItHas) {
  LoadedModel model(asset("wiki-llama-6m"));
  const GenerationOptions options{.max_tokens = 12};
  Generator kept(model.decoder, 100, CacheElement::working);
  const Generated first = kept.generate(kPrompt, options);
  EXPECT_EQ(first.reused_tokens, 0);
  // The conversation so far and more: only what is new is computed.
  Ids longer = kPrompt;
  longer.insert(longer.end(), first.tokens.begin(), first.tokens.end());
  longer.insert(longer.end(), {7, 8, 9});
  const Generated second = kept.generate(longer, options);
  EXPECT_EQ(second.reused_tokens, 16);  // the last token of a text is not computed further
  EXPECT_EQ(second.prompt_tokens, 4);
  Generator fresh(model.decoder, 100, CacheElement::working);
  EXPECT_EQ(second.tokens, fresh.generate(longer, options).tokens);
  // Another continuation: the cache is cut back to what is common.
  Ids other(longer.begin(), longer.begin() + 9);
  other.push_back(300);
  const Generated third = kept.generate(other, options);
  EXPECT_EQ(third.reused_tokens, 9);
  fresh.generate(Ids{1}, options);
  EXPECT_EQ(third.tokens, fresh.generate(other, options).tokens);
  // The same prompt again.
  EXPECT_EQ(kept.generate(other, options).tokens, third.tokens);
}

TEST(Generator, RefusesBeforeItWorks) {
  LoadedModel model(asset("wiki-opt-3m"));
  Generator generator(model.decoder, 5, CacheElement::working);
  EXPECT_THROW(generator.generate({}, {.max_tokens = 1}), InputError);
  EXPECT_THROW(generator.generate(kPrompt, {.max_tokens = 1}), InputError);
  EXPECT_EQ(generator.cache().length(), 0);
  EXPECT_THROW(generator.generate(Ids{1 << 20}, {.max_tokens = 1}), InputError);
  EXPECT_EQ(generator.generate(Ids{1, 2, 3, 4}, {.max_tokens = 9}).tokens.size(), 1U);
}

TEST(Generator, LimitsOfTheContext) {
  ModelConfig config;
  config.max_positions = 100;
  config.positions = Positions::learned;
  EXPECT_EQ(context_limit(config, 0), 100);
  EXPECT_EQ(context_limit(config, 100), 100);
  EXPECT_THROW(context_limit(config, 101), UsageError);
  config.positions = Positions::rotary;
  EXPECT_EQ(context_limit(config, 0), 100);
  EXPECT_EQ(context_limit(config, 500), 500);
  EXPECT_NO_THROW(check_prompt(99, 100));
  EXPECT_THROW(check_prompt(100, 100), InputError);
}

TEST(KeyValueCache, IsCutBack) {
  LoadedModel model(asset("wiki-llama-6m"));
  KeyValueCache cache(model.decoder.config(), *model.backend, 1, 8);
  for (const std::int32_t token : {1, 2, 3}) model.decoder.next(Ids{token}, cache);
  EXPECT_THROW(cache.shorten(4), std::invalid_argument);
  EXPECT_THROW(cache.shorten(-1), std::invalid_argument);
  cache.shorten(1);
  EXPECT_EQ(cache.length(), 1);
  const auto cut = model.decoder.next(Ids{9}, cache);
  KeyValueCache fresh(model.decoder.config(), *model.backend, 1, 8);
  model.decoder.next(Ids{1}, fresh);
  EXPECT_EQ(cut, model.decoder.next(Ids{9}, fresh));
}

/// A model folder with these files beside the weights.
class StopTokens : public ::testing::Test {
 protected:
  Ids stop(const nlohmann::json& eos_of_config, const std::string& generation_config,
           std::optional<std::int32_t> eos) {
    const fs::path from = fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-llama-6m";
    nlohmann::json config = nlohmann::json::parse(read_file(from / "config.json"));
    config["eos_token_id"] = eos_of_config;
    fs::remove_all(scratch_ / "model");
    fs::create_directory(scratch_ / "model");
    fs::copy_file(from / "model.safetensors", scratch_ / "model/model.safetensors");
    write_file(scratch_ / "model/config.json", config.dump());
    if (!generation_config.empty()) write_file(scratch_ / "model/generation_config.json", generation_config);
    return stop_tokens(Checkpoint::open(scratch_ / "model"), eos);
  }
  Scratch scratch_;
};

TEST_F(StopTokens, ComeFromAllFiles) {
  EXPECT_EQ(stop(7, "", 2), Ids({2, 7}));
  EXPECT_EQ(stop(nullptr, "", std::nullopt), Ids());
  EXPECT_EQ(stop({7, 9}, R"({"eos_token_id": [9, 11]})", 7), Ids({7, 9, 11}));
  EXPECT_EQ(stop(7, R"({"eos_token_id": 3, "temperature": 0.6})", 7), Ids({3, 7}));
  EXPECT_EQ(stop("x", R"({"eos_token_id": [-5, "y", 1e30, 99999999999]})", std::nullopt), Ids());
  try {
    stop(7, "{", 7);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("generation_config.json"));
  }
}

}  // namespace
}  // namespace knapsaq
