#include "knapsaq/calib/search_text.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "message_of.h"
#include "test_models.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Every number once, so that a window says where it comes from.
CalibrationText numbers() {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += " number " + std::to_string(i);
  return {{std::move(text)}, "hash"};
}

/// Where the windows are in the stream.
std::vector<std::int64_t> places(const Samples& samples, const std::vector<std::int32_t>& stream) {
  std::vector<std::int64_t> found;
  const std::int64_t window = samples.options.window;
  for (std::int64_t i = 0; i < samples.options.samples; ++i) {
    const auto begin = samples.tokens.begin() + i * window;
    const auto at = std::search(stream.begin(), stream.end(), begin, begin + window);
    EXPECT_NE(at, stream.end());
    found.push_back(at - stream.begin());
  }
  return found;
}

TEST(SearchText, PartsOfATextShareNoToken) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  ASSERT_FALSE(tokenizer.adds_bos());
  const CalibrationText text = numbers();
  const std::vector<std::int32_t> stream = tokenizer.encode(text.documents.front());
  for (const std::int64_t heldout : {1, 7, 40}) {
    const SampleOptions options{.samples = 20, .window = 50, .seed = static_cast<std::uint64_t>(heldout)};
    const SearchText both = search_windows(text, tokenizer, options, heldout);
    EXPECT_EQ(both.search.options, options);
    EXPECT_EQ(both.heldout.options.samples, heldout);
    EXPECT_EQ(both.search.text, "hash");
    std::vector<std::int64_t> search = places(both.search, stream);
    std::vector<std::int64_t> held = places(both.heldout, stream);
    // The first windows are not the front of the text.
    EXPECT_FALSE(std::is_sorted(search.begin(), search.end()));
    std::vector<std::int64_t> all = search;
    all.insert(all.end(), held.begin(), held.end());
    std::sort(all.begin(), all.end());
    for (std::size_t i = 1; i < all.size(); ++i) EXPECT_GE(all[i] - all[i - 1], 50);
    EXPECT_LT(*std::max_element(search.begin(), search.end()), *std::min_element(held.begin(), held.end()));
    EXPECT_EQ(search_windows(text, tokenizer, options, heldout).search.hash, both.search.hash);
  }
}

TEST(SearchText, ACalibrationLeavesAloneWhatIsHeldOut) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const CalibrationText text = numbers();
  const std::vector<std::int32_t> stream = tokenizer.encode(text.documents.front());
  for (const std::int64_t heldout : {1, 60, 120}) {
    SampleOptions options{.samples = 20, .window = 50, .seed = static_cast<std::uint64_t>(heldout)};
    const SearchText both = search_windows(text, tokenizer, options, heldout);
    const std::vector<std::int64_t> held = places(both.heldout, stream);
    options.held_back = heldout * 50;
    for (const std::int64_t place : places(sample_windows(text, tokenizer, options), stream))
      EXPECT_LE(place + 50, *std::min_element(held.begin(), held.end()));
  }
}

TEST(SearchText, ATextMayFitExactly) {
  const Tokenizer tokenizer = Tokenizer::load(asset("wiki-llama-6m"));
  const CalibrationText text = numbers();
  const std::int64_t count = std::ssize(tokenizer.encode(text.documents.front()));
  const SampleOptions options{.samples = 3, .window = count / 4};
  EXPECT_EQ(std::ssize(search_windows(text, tokenizer, options, 1).search.tokens), count / 4 * 3);
  EXPECT_THAT(
      message_of([&] { search_windows(text, tokenizer, options, 2); }),
      AllOf(HasSubstr("has " + std::to_string(count)), HasSubstr("need " + std::to_string(count / 4 * 5))));
  EXPECT_THROW(search_windows(text, tokenizer, options, 0), UsageError);
}

}  // namespace
}  // namespace knapsaq
