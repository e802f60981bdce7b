// The papers' C4 rule: against tests/data/eval/c4.json, made with Transformers by
// tools/make_c4_references.py.

#include "knapsaq/eval/evaluation_text.h"

#include <array>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/model/decoder.h"
#include "scratch.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

const fs::path kModel = fs::path(KNAPSAQ_SOURCE_DIR) / "assets" / "wiki-llama-6m";

/// The documents of tools/make_c4_references.py, with blank lines between some of them.
std::string documents(std::size_t count) {
  constexpr std::array kWords = {"river", "the", "of",    "city", "1912", "and",
                                 "band",  "in",  "album", "was",  "\n",   "water"};
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    std::string document;
    for (std::size_t j = 0; j < i % 6; ++j)
      document += std::string(j == 0 ? "" : " ") + kWords[(7 * i + j * j) % kWords.size()];
    text += json{{"url", "made"}, {"text", document}}.dump() + (i % 50 == 0 ? "\n \n" : "\n");
  }
  return text;
}

WindowOptions windows_of(std::int64_t width, Protocol protocol = Protocol::gptq) {
  WindowOptions options;
  options.protocol = protocol;
  options.window = width;
  return resolve(options, 512);
}

TEST(EvaluationText, FollowsTheC4RuleOfThePapers) {
  const json references = parse_json(read_file(fs::path(KNAPSAQ_TEST_DATA) / "eval" / "c4.json"));
  const Scratch scratch;
  // What lies behind the first 1100 documents is not looked at.
  write_file(scratch / "c4.jsonl", documents(references.at("documents").get<std::size_t>()) + "damaged\n");
  const Tokenizer tokenizer = Tokenizer::load(kModel);
  const Checkpoint checkpoint = Checkpoint::open(kModel);
  const auto backend = make_backend({.precision = Precision::fp32});
  Decoder decoder = Decoder::load(checkpoint, parse_model_config(checkpoint.config()), *backend);
  for (const json& expected : references.at("results")) {
    const WindowOptions options = windows_of(expected.at("window").get<std::int64_t>());
    const EvaluationText text = read_evaluation_text(scratch / "c4.jsonl", tokenizer, options);
    const Perplexity found =
        perplexity(text.tokens, options, std::nullopt, [&](auto tokens, auto windows, auto length, auto out) {
          decoder.losses(tokens, windows, length, out);
        });
    EXPECT_EQ(found.windows, expected.at("windows").get<std::int64_t>());
    EXPECT_NEAR(found.perplexity / expected.at("perplexity").get<double>(), 1, 1e-5);
  }
  // Protocol stride, whose windows overlap, keeps all tokens.
  const auto all = references.at("tokens").get<std::size_t>();
  EXPECT_EQ(
      read_evaluation_text(scratch / "c4.jsonl", tokenizer, windows_of(8, Protocol::stride)).tokens.size(),
      all);
  EXPECT_GT(all, 256u * 8);
}

TEST(EvaluationText, ReadsOtherFilesAsTheyAre) {
  const Scratch scratch;
  const Tokenizer tokenizer = Tokenizer::load(kModel);
  const std::string text = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
  write_file(scratch / "plain.txt", text);
  EXPECT_EQ(read_evaluation_text(scratch / "plain.txt", tokenizer, windows_of(8)).text, text);
  write_file(scratch / "c4.jsonl", text);
  EXPECT_EQ(read_evaluation_text(scratch / "c4.jsonl", tokenizer, windows_of(8)).text, "a b");
}

TEST(EvaluationText, RefusesDamagedDocuments) {
  const Scratch scratch;
  const Tokenizer tokenizer = Tokenizer::load(kModel);
  for (const auto& [text, words] :
       {std::pair<std::string, std::string>{"{\"text\":\"a\"}\n{\"text\":3}", "line 2"},
        {"{\"text\":\"a\"", "line 1"},
        {"\n\n{\"content\":\"a\"}", "line 3"},
        {"{\"text\":\"\"}\n{\"text\":\" \"}\n", "empty"}}) {
    write_file(scratch / "bad.jsonl", text);
    try {
      static_cast<void>(read_evaluation_text(scratch / "bad.jsonl", tokenizer, windows_of(8)));
      FAIL() << text;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_THAT(error.what(), HasSubstr("bad.jsonl"));
    }
  }
}

}  // namespace
}  // namespace knapsaq
