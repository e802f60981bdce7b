#include "knapsaq/calib/samples.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "calib/bos_template.h"
#include "knapsaq/base/files.h"
#include "message_of.h"
#include "scratch.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CalibrationText text_of(std::string content) { return {{std::move(content)}, "hash"}; }

/// Words that make some thousand distinct places.
std::string long_text() {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += " number " + std::to_string(i);
  return text;
}

TEST(Samples, DefaultsFollowTheModel) {
  EXPECT_EQ(resolve({}, 4096).window, 2048);
  EXPECT_EQ(resolve({}, 512).window, 512);
  EXPECT_EQ(resolve({.samples = 3, .window = 100, .seed = 9}, 512),
            (SampleOptions{.samples = 3, .window = 100, .seed = 9}));
  EXPECT_THROW(resolve({.window = 513}, 512), UsageError);
  EXPECT_THROW(resolve({.window = 1}, 512), UsageError);
  EXPECT_THROW(resolve({.samples = 0}, 512), UsageError);
}

TEST(Samples, AreDisjointPartsOfTheTextInOrder) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const std::string text = long_text();
  const std::vector<std::int32_t> all = tokenizer.encode(text);
  const Samples samples = sample_windows(text_of(text), tokenizer, {.samples = 20, .window = 50, .seed = 1});
  ASSERT_EQ(samples.tokens.size(), 1000u);
  auto from = all.begin();
  for (int i = 0; i < 20; ++i) {
    // What stands behind the BOS, if there is one, is found behind the window before.
    const auto begin = samples.tokens.begin() + 50 * i + (tokenizer.adds_bos() ? 1 : 0);
    const auto end = samples.tokens.begin() + 50 * (i + 1);
    const auto found = std::search(from, all.end(), begin, end);
    ASSERT_NE(found, all.end()) << i;
    from = found + (end - begin);
    if (tokenizer.adds_bos()) {
      EXPECT_EQ(samples.tokens[static_cast<std::size_t>(50 * i)], tokenizer.bos());
    }
  }
}

TEST(Samples, StartWithBosWhereTheTokenizerAddsOne) {
  const Scratch scratch;
  fs::copy(asset("wiki-opt-3m") / "tokenizer_config.json", scratch / "tokenizer_config.json");
  nlohmann::json json = nlohmann::json::parse(read_file(asset("wiki-opt-3m") / "tokenizer.json"));
  json["post_processor"] = bos_template("<|endoftext|>", 0);
  write_file(scratch / "tokenizer.json", json.dump());
  const Tokenizer tokenizer = Tokenizer::load(scratch.path());
  ASSERT_TRUE(tokenizer.adds_bos());
  const Samples samples = sample_windows(text_of(long_text()), tokenizer, {.samples = 7, .window = 30});
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(samples.tokens[30 * i], tokenizer.bos());
}

TEST(Samples, DependOnSeedAndSizesOnly) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const CalibrationText text = text_of(long_text());
  const SampleOptions options{.samples = 8, .window = 64, .seed = 5};
  const Samples one = sample_windows(text, tokenizer, options);
  EXPECT_EQ(sample_windows(text, tokenizer, options).tokens, one.tokens);
  EXPECT_EQ(sample_windows(text, tokenizer, options).hash, one.hash);
  const Samples other = sample_windows(text, tokenizer, {.samples = 8, .window = 64, .seed = 6});
  EXPECT_NE(other.tokens, one.tokens);
  EXPECT_NE(other.hash, one.hash);
}

TEST(Samples, ATextMayFitExactly) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const std::string text = long_text();
  const auto count = std::ssize(tokenizer.encode(text));
  const Samples samples = sample_windows(text_of(text), tokenizer, {.samples = 1, .window = count});
  EXPECT_EQ(std::ssize(samples.tokens), count);
}

TEST(Samples, ATextThatIsTooShortSaysBothNumbers) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const std::string text = long_text();
  const std::size_t count = tokenizer.encode(text).size();
  EXPECT_THAT(message_of([&] { sample_windows(text_of(text), tokenizer, {.samples = 1000, .window = 100}); }),
              AllOf(HasSubstr("has " + std::to_string(count) + " tokens"), HasSubstr("need 100000"),
                    HasSubstr("--samples " + std::to_string(count / 100))));
  EXPECT_THAT(message_of([&] { sample_windows(text_of("short"), tokenizer, {.samples = 2, .window = 100}); }),
              AllOf(HasSubstr("need 200"), HasSubstr("smaller --window")));
}

TEST(CalibrationText, ReadsPlainTextAndJsonl) {
  const Scratch scratch;
  write_file(scratch / "a.txt", "{\"text\": \"not json lines\"}\n");
  write_file(scratch / "b.jsonl",
             "{\"text\": \"one\\nline\", \"url\": 3}\n\n{\"text\": \"\"}\r\n{\"text\": \"two\"}");
  const std::vector<fs::path> files = {scratch / "a.txt", scratch / "b.jsonl"};
  const CalibrationText text = read_calibration_text(files);
  EXPECT_THAT(text.documents, ElementsAre("{\"text\": \"not json lines\"}\n", "one\nline", "two"));

  write_file(scratch / "b.jsonl", "{\"text\": \"one\\nlinetwo\"}");
  EXPECT_NE(read_calibration_text(files).hash, text.hash);
}

TEST(CalibrationText, NamesFileAndLineOfWhatIsNoJsonl) {
  const Scratch scratch;
  const std::vector<fs::path> files = {scratch / "x.jsonl"};
  const auto complaint_about = [&](std::string_view content) {
    write_file(files[0], content);
    return message_of([&] { read_calibration_text(files); });
  };
  const std::string good = "{\"text\": \"a\"}\n";
  EXPECT_THAT(complaint_about(good + "{\"text\": "), AllOf(HasSubstr("x.jsonl, line 2"), HasSubstr("JSON")));
  for (const char* bad : {"[1]", "3", "{\"Text\": \"a\"}", "{\"text\": 4}"})
    EXPECT_THAT(complaint_about(good + "\n" + bad), HasSubstr("x.jsonl, line 3")) << bad;
  EXPECT_THAT(complaint_about("\n \n"), HasSubstr("holds no text"));
  EXPECT_THAT(complaint_about(""), HasSubstr("empty"));
  EXPECT_THROW(read_calibration_text(std::vector{scratch / "absent.txt"}), IoError);
}

}  // namespace
}  // namespace knapsaq
