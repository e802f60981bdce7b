#include "knapsaq/eval/windows.h"

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

WindowOptions options(Protocol protocol, std::int64_t window, std::int64_t stride = 0,
                      std::int64_t limit = 0) {
  return {protocol, window, stride, limit};
}

TEST(Windows, GptqCutsWithoutOverlapAndDropsTheRest) {
  const auto windows = plan_windows(1000, options(Protocol::gptq, 300));
  ASSERT_EQ(windows.size(), 3u);
  for (std::size_t w = 0; w < windows.size(); ++w) {
    EXPECT_EQ(windows[w].begin, static_cast<std::int64_t>(w) * 300);
    EXPECT_EQ(windows[w].length, 300);
    EXPECT_EQ(windows[w].targets(), 299);
    EXPECT_EQ(windows[w].weight, 300);
  }
  EXPECT_EQ(plan_windows(1000, options(Protocol::gptq, 300, 0, 2)).size(), 2u);
  EXPECT_THROW(plan_windows(299, options(Protocol::gptq, 300)), InputError);
}

// The loop of MXQ's perplexity.py, written down as it stands in formats.md section 14.2.
TEST(Windows, StrideScoresEveryTokenOnce) {
  for (const std::int64_t tokens : {2, 7, 512, 513, 1024, 1300, 2048, 5000}) {
    const std::int64_t max_length = 1024;
    const std::int64_t stride = 512;
    const auto windows = plan_windows(tokens, options(Protocol::stride, max_length, stride));
    std::size_t w = 0;
    std::int64_t scored = 0;
    double weight = 0;
    for (std::int64_t i = 0; i < tokens; i += stride, ++w) {
      const std::int64_t begin = std::max<std::int64_t>(i + stride - max_length, 0);
      const std::int64_t end = std::min(i + stride, tokens);
      ASSERT_LT(w, windows.size());
      EXPECT_EQ(windows[w].begin, begin);
      EXPECT_EQ(windows[w].begin + windows[w].length, end);
      EXPECT_EQ(windows[w].weight, static_cast<double>(end - i));
      EXPECT_EQ(windows[w].targets(), end - i - (i == 0 ? 1 : 0));
      scored += windows[w].targets();
      weight += windows[w].weight;
    }
    EXPECT_EQ(w, windows.size());
    EXPECT_EQ(scored, tokens - 1);
    EXPECT_EQ(weight, static_cast<double>(tokens));
  }
}

TEST(Windows, LlamaScoresTheSecondHalf) {
  const auto windows = plan_windows(1200, options(Protocol::llama, 512));
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[1].begin, 512);
  EXPECT_EQ(windows[1].first_target, 257);
  EXPECT_EQ(windows[1].targets(), 255);
  EXPECT_EQ(windows[1].weight, 255);
}

TEST(Windows, DefaultsFollowTheProtocolAndTheModel) {
  EXPECT_EQ(resolve(options(Protocol::gptq, 0), 4096).window, 2048);
  EXPECT_EQ(resolve(options(Protocol::gptq, 0), 512).window, 512);
  EXPECT_EQ(resolve(options(Protocol::llama, 0), 4096).window, 512);
  const WindowOptions stride = resolve(options(Protocol::stride, 0), 4096);
  EXPECT_EQ(stride.window, 1024);
  EXPECT_EQ(stride.stride, 512);
}

TEST(Windows, RefusesWhatMakesNoSense) {
  EXPECT_THROW(resolve(options(Protocol::gptq, 1), 512), UsageError);
  EXPECT_THROW(resolve(options(Protocol::llama, 3), 512), UsageError);
  EXPECT_THROW(resolve(options(Protocol::gptq, 513), 512), UsageError);
  EXPECT_THROW(resolve(options(Protocol::gptq, 512, 256), 512), UsageError);
  EXPECT_THROW(resolve(options(Protocol::stride, 512, 513), 512), UsageError);
  EXPECT_THROW(resolve(options(Protocol::gptq, 0, 0, -1), 512), UsageError);
  EXPECT_THROW(parse_protocol("hf"), UsageError);
  for (const Protocol protocol : {Protocol::gptq, Protocol::stride, Protocol::llama})
    EXPECT_EQ(parse_protocol(name_of(protocol)), protocol);
}

}  // namespace
}  // namespace knapsaq
