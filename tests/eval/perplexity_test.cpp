#include "knapsaq/eval/perplexity.h"

#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

/// A stand-in for a model whose loss of a token depends on the token and on what the window shows before it,
/// so that wrong windows, wrong positions and a missing BOS all show.
float fake_loss(std::span<const std::int32_t> window, std::int64_t target) {
  return static_cast<float>(window[target] % 7) + 0.25f * static_cast<float>(window[0] % 3) +
         1.0f / static_cast<float>(target);
}

void fake_losses(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                 std::span<float> out) {
  ASSERT_EQ(std::ssize(tokens), windows * length);
  ASSERT_EQ(std::ssize(out), windows * (length - 1));
  for (std::int64_t w = 0; w < windows; ++w)
    for (std::int64_t t = 1; t < length; ++t)
      out[w * (length - 1) + t - 1] = fake_loss(tokens.subspan(w * length, length), t);
}

std::vector<std::int32_t> text(std::int64_t tokens) {
  std::vector<std::int32_t> ids(tokens);
  for (std::int64_t i = 0; i < tokens; ++i) ids[i] = static_cast<std::int32_t>(i * i % 1013);
  return ids;
}

TEST(Perplexity, GptqIsTheMeanOverWindowsOfMeans) {
  const auto ids = text(5000);
  const Perplexity result = perplexity(ids, {Protocol::gptq, 128, 0, 0}, std::nullopt, fake_losses);
  double sum = 0;
  for (std::int64_t w = 0; w < 5000 / 128; ++w) {
    double mean = 0;
    for (std::int64_t t = 1; t < 128; ++t) mean += fake_loss(std::span(ids).subspan(w * 128, 128), t);
    sum += mean / 127;
  }
  EXPECT_NEAR(result.nll, sum / 39, 1e-6);
  EXPECT_DOUBLE_EQ(result.perplexity, std::exp(result.nll));
  EXPECT_EQ(result.windows, 39);
  EXPECT_EQ(result.tokens, 39 * 127);
  EXPECT_GT(result.standard_error, 0);
}

TEST(Perplexity, StrideWeighsEachWindowByItsNewTokens) {
  const auto ids = text(1111);
  const Perplexity result = perplexity(ids, {Protocol::stride, 256, 128, 0}, std::nullopt, fake_losses);
  double sum = 0;
  for (std::int64_t i = 0; i < 1111; i += 128) {
    const std::int64_t begin = std::max<std::int64_t>(i + 128 - 256, 0);
    const std::int64_t end = std::min<std::int64_t>(i + 128, 1111);
    const auto window = std::span(ids).subspan(begin, end - begin);
    double mean = 0;
    int count = 0;
    for (std::int64_t t = std::max<std::int64_t>(i - begin, 1); t < end - begin; ++t, ++count)
      mean += fake_loss(window, t);
    sum += mean / count * static_cast<double>(end - i);
  }
  EXPECT_NEAR(result.nll, sum / 1111, 1e-6);
  EXPECT_EQ(result.tokens, 1110);
}

TEST(Perplexity, LlamaPutsBosInTheFirstPlaceOfEveryWindow) {
  const auto ids = text(2000);
  const auto expected = [&](bool with_bos) {
    double sum = 0;
    int count = 0;
    for (std::int64_t w = 0; w < 2000 / 64; ++w) {
      std::vector<std::int32_t> window(ids.begin() + w * 64, ids.begin() + (w + 1) * 64);
      if (with_bos) window[0] = 2;
      for (std::int64_t t = 33; t < 64; ++t, ++count) sum += fake_loss(window, t);
    }
    return sum / count;
  };
  EXPECT_NEAR(perplexity(ids, {Protocol::llama, 64, 0, 0}, 2, fake_losses).nll, expected(true), 1e-6);
  EXPECT_NEAR(perplexity(ids, {Protocol::llama, 64, 0, 0}, std::nullopt, fake_losses).nll, expected(false),
              1e-6);
}

TEST(Perplexity, LimitScoresTheFirstWindowsOnly) {
  const auto ids = text(5000);
  const auto part = std::span(ids).first(3 * 128);
  const Perplexity limited = perplexity(ids, {Protocol::gptq, 128, 0, 3}, std::nullopt, fake_losses);
  EXPECT_EQ(limited.nll, perplexity(part, {Protocol::gptq, 128, 0, 0}, std::nullopt, fake_losses).nll);
  EXPECT_EQ(limited.windows, 3);
  EXPECT_THROW(perplexity({}, {Protocol::gptq, 128, 0, 0}, std::nullopt, fake_losses), InputError);
}

}  // namespace
}  // namespace knapsaq
