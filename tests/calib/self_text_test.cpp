#include "knapsaq/calib/self_text.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "calib/bos_template.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/calib/samples.h"
#include "loaded_model.h"
#include "message_of.h"
#include "scratch.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

DocumentTokens any_document(const ModelConfig& config) {
  return {
      .start = 1, .end = {}, .starts_again = false, .vocabulary = static_cast<std::int32_t>(config.vocab)};
}

TEST(SelfText, DependsOnSeedUseAndNothingElse) {
  LoadedModel model(tiny_model("llama-gqa"), Precision::bf16);
  const DocumentTokens documents = any_document(model.config);
  const SampleOptions options{.samples = 70, .window = 24, .seed = 5};
  const Samples one = self_text(model.decoder, documents, options, SelfTextUse::calibration);
  ASSERT_EQ(one.tokens.size(), 70u * 24u);
  EXPECT_EQ(one.text, "self calibration seed 5");
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    const Samples again = self_text(model.decoder, documents, options, SelfTextUse::calibration);
    EXPECT_EQ(again.tokens, one.tokens);
    EXPECT_EQ(again.hash, one.hash);
  }
  work_with_threads(0);

  // Fewer windows are the first of them, whatever the batches.
  for (const std::int64_t fewer : {1, 3, 64, 65}) {
    const Samples some = self_text(model.decoder, documents, {.samples = fewer, .window = 24, .seed = 5},
                                   SelfTextUse::calibration);
    EXPECT_TRUE(std::equal(some.tokens.begin(), some.tokens.end(), one.tokens.begin())) << fewer;
    EXPECT_NE(some.hash, one.hash);
  }
  const SampleOptions other{.samples = 70, .window = 24, .seed = 6};
  EXPECT_NE(self_text(model.decoder, documents, other, SelfTextUse::calibration).tokens, one.tokens);
  for (const SelfTextUse use : {SelfTextUse::search, SelfTextUse::heldout})
    EXPECT_NE(self_text(model.decoder, documents, options, use).tokens, one.tokens);
  // Windows differ from each other as well.
  EXPECT_FALSE(std::equal(one.tokens.begin(), one.tokens.begin() + 24, one.tokens.begin() + 24));
}

// The second token of every window is drawn from the same known distribution. Pearson's statistic over cells
// of 8 expected draws or more is close to chi squared: its mean is the number of cells less one, its standard
// deviation the root of twice that; 5 of them are passed once in a million.
TEST(SelfText, DrawsFromTheModelsDistribution) {
  LoadedModel model(tiny_model("llama2"));
  DocumentTokens documents = any_document(model.config);
  documents.vocabulary -= 7;  // padding behind, which takes no part
  const SampleOptions options{.samples = 6400, .window = 2, .seed = 1};
  const Samples samples = self_text(model.decoder, documents, options, SelfTextUse::search);
  const std::vector<std::int32_t> start = {*documents.start};
  const std::vector<float> logits = model.decoder.logits(start, 0);
  double sum = 0;
  for (std::int32_t id = 0; id < documents.vocabulary; ++id)
    sum += std::exp(static_cast<double>(logits[static_cast<std::size_t>(id)]));
  std::map<std::int32_t, double> counts;
  for (std::size_t i = 0; i < samples.tokens.size(); i += 2) {
    ASSERT_EQ(samples.tokens[i], *documents.start);
    counts[samples.tokens[i + 1]] += 1;
  }
  EXPECT_LT(counts.rbegin()->first, documents.vocabulary);
  double statistic = 0;
  double rest_expected = 0;
  double rest_found = 0;
  int cells = 0;
  for (std::int32_t id = 0; id < documents.vocabulary; ++id) {
    const double expected = 6400 * std::exp(static_cast<double>(logits[static_cast<std::size_t>(id)])) / sum;
    if (expected < 8) {
      rest_expected += expected;
      rest_found += counts[id];
      continue;
    }
    statistic += std::pow(counts[id] - expected, 2) / expected;
    ++cells;
  }
  if (rest_expected >= 8) {
    statistic += std::pow(rest_found - rest_expected, 2) / rest_expected;
    ++cells;
  }
  ASSERT_GT(cells, 10);
  EXPECT_LE(std::abs(statistic - (cells - 1)), 5 * std::sqrt(2.0 * (cells - 1)));
}

TEST(SelfText, DocumentsEndAndBeginAgain) {
  LoadedModel model(tiny_model("llama2"));
  DocumentTokens documents = any_document(model.config);
  const SampleOptions options{.samples = 40, .window = 40, .seed = 3};
  // A token that the model draws often stands for the end.
  const Samples free = self_text(model.decoder, documents, options, SelfTextUse::calibration);
  std::map<std::int32_t, int> counts;
  for (const std::int32_t token : free.tokens) ++counts[token];
  counts.erase(*documents.start);
  documents.end = std::max_element(counts.begin(), counts.end(), [](auto& a, auto& b) {
                    return a.second < b.second;
                  })->first;
  const auto ends_before_start = [&](const Samples& samples) {
    int ends = 0;
    int starts = 0;
    for (std::size_t i = 0; i + 1 < samples.tokens.size(); ++i) {
      if ((i + 1) % 40 == 0 || samples.tokens[i] != *documents.end) continue;
      ++ends;
      starts += samples.tokens[i + 1] == *documents.start;
    }
    return std::pair(ends, starts);
  };
  // An end changes nothing unless the tokenizer opens every text with a BOS.
  EXPECT_EQ(self_text(model.decoder, documents, options, SelfTextUse::calibration).tokens, free.tokens);
  documents.starts_again = true;
  const auto [ends, starts] =
      ends_before_start(self_text(model.decoder, documents, options, SelfTextUse::calibration));
  EXPECT_GT(ends, 0);
  EXPECT_EQ(starts, ends);
}

TEST(SelfText, WithoutAStartWindowsBeginAnywhere) {
  LoadedModel model(tiny_model("opt"));
  DocumentTokens documents = any_document(model.config);
  documents.start.reset();
  documents.vocabulary = 5;
  const Samples samples =
      self_text(model.decoder, documents, {.samples = 100, .window = 2, .seed = 0}, SelfTextUse::calibration);
  std::map<std::int32_t, int> first;
  for (std::size_t i = 0; i < samples.tokens.size(); i += 2) ++first[samples.tokens[i]];
  EXPECT_EQ(first.size(), 5u);
  // Rows without a token are no tokens.
  documents.unused = {1, 3};
  const Samples used =
      self_text(model.decoder, documents, {.samples = 100, .window = 2, .seed = 0}, SelfTextUse::calibration);
  const std::set<std::int32_t> seen(used.tokens.begin(), used.tokens.end());
  EXPECT_EQ(seen, (std::set<std::int32_t>{0, 2, 4}));
}

TEST(SelfText, SoundsLikeTheModel) {
  LoadedModel model(asset("wiki-llama-6m"), Precision::bf16);
  const DocumentTokens documents =
      document_tokens(Tokenizer::load(model.checkpoint.folder()), model.checkpoint.config(), model.config);
  const Samples samples =
      self_text(model.decoder, documents, {.samples = 8, .window = 128, .seed = 2}, SelfTextUse::calibration);
  std::vector<float> losses(8 * 127);
  model.decoder.losses(samples.tokens, 8, 128, losses);
  double mean = 0;
  for (const float loss : losses) mean += static_cast<double>(loss) / static_cast<double>(losses.size());
  // Real text has 4.1 nats per token, uniform tokens have log 4096 = 8.3 and more.
  EXPECT_GT(mean, 3);
  EXPECT_LT(mean, 5);
  EXPECT_TRUE(std::all_of(samples.tokens.begin(), samples.tokens.end(),
                          [&](std::int32_t id) { return id >= 0 && id < model.config.vocab; }));
}

TEST(DocumentTokens, ComeFromTokenizerAndConfiguration) {
  const Scratch scratch;
  const nlohmann::json original = nlohmann::json::parse(read_file(asset("wiki-opt-3m") / "tokenizer.json"));
  const auto settings_with = [&](const char* bos, const char* eos, bool adds) {
    nlohmann::json tokenizer = original;
    if (adds) tokenizer["post_processor"] = bos_template(bos, tokenizer["model"]["vocab"][bos]);
    write_file(scratch / "tokenizer.json", tokenizer.dump());
    nlohmann::json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
    if (bos != nullptr) settings["bos_token"] = bos;
    if (eos != nullptr) settings["eos_token"] = eos;
    write_file(scratch / "tokenizer_config.json", settings.dump());
    return Tokenizer::load(scratch.path());
  };
  ModelConfig config;
  config.vocab = 5000;
  const std::int32_t letter = settings_with(nullptr, nullptr, false).encode("a").front();

  DocumentTokens documents =
      document_tokens(settings_with("<|endoftext|>", "<|endoftext|>", true), {}, config);
  EXPECT_EQ(documents.start, 0);
  EXPECT_EQ(documents.end, 0);
  EXPECT_FALSE(documents.starts_again);   // the end of one is the start of the next
  EXPECT_EQ(documents.vocabulary, 4096);  // rows of the embedding without a token

  documents = document_tokens(settings_with("a", "<|endoftext|>", true), {}, config);
  EXPECT_EQ(documents.start, letter);
  EXPECT_TRUE(documents.starts_again);
  EXPECT_FALSE(document_tokens(settings_with("a", "<|endoftext|>", false), {}, config).starts_again);

  const auto with_bos = [](nlohmann::json id) { return nlohmann::json::object({{"bos_token_id", id}}); };
  const Tokenizer only_end = settings_with(nullptr, "<|endoftext|>", false);
  EXPECT_EQ(document_tokens(only_end, with_bos(17), config).start, 17);
  EXPECT_EQ(document_tokens(only_end, with_bos(4096), config).start, 0);
  EXPECT_EQ(document_tokens(only_end, with_bos(nullptr), config).start, 0);
  EXPECT_EQ(document_tokens(settings_with(nullptr, nullptr, false), {}, config).start, std::nullopt);
}

TEST(SelfText, DefaultWindow) {
  EXPECT_EQ(resolve_self({}, 4096).window, 512);
  EXPECT_EQ(resolve_self({}, 256).window, 256);
  EXPECT_EQ(resolve_self({.window = 2048}, 4096).window, 2048);
  EXPECT_THROW(resolve_self({.window = 513}, 512), UsageError);
}

TEST(SelfText, AModelLargerThanMemoryIsRefusedWithAWayOut) {
  const ModelConfig config = parse_model_config(Checkpoint::open(asset("wiki-llama-6m")).config());
  const auto backend = make_backend({.precision = Precision::fp32});
  const std::uint64_t needed = self_text_memory(config, *backend, 512);
  // Six million weights in fp32 at least.
  EXPECT_GT(needed, 24'000'000u);
  check_self_text_memory(config, *backend, 512, needed);
  check_self_text_memory(config, *backend, 512, std::nullopt);
  EXPECT_THAT(message_of<UsageError>([&] { check_self_text_memory(config, *backend, 512, needed - 1); }),
              AllOf(HasSubstr("memory"), HasSubstr("--text FILE")));
  const auto available = backend->available_memory();
  if (available) {
    EXPECT_GT(*available, 1u << 20);
  }
}

}  // namespace
}  // namespace knapsaq
