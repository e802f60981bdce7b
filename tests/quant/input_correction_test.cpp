#include "knapsaq/quant/input_correction.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "knapsaq/quant/tiled_cholesky.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kTokens = 900;
constexpr std::int64_t kWidth = 300;  // more than a tile of the factorisation
constexpr std::int64_t kRows = 70;    // more than a thread takes at once

std::vector<float> normal(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

/// sum a^T b of a [kTokens, a_cols] and b [kTokens, b_cols].
std::vector<double> products(const std::vector<float>& a, std::int64_t a_cols, const std::vector<float>& b,
                             std::int64_t b_cols) {
  std::vector<double> sums(static_cast<std::size_t>(a_cols * b_cols));
  for (std::int64_t t = 0; t < kTokens; ++t)
    for (std::int64_t i = 0; i < a_cols; ++i)
      for (std::int64_t j = 0; j < b_cols; ++j)
        sums[i * b_cols + j] +=
            static_cast<double>(a[t * a_cols + i]) * static_cast<double>(b[t * b_cols + j]);
  return sums;
}

InputSums sums_of(const std::vector<float>& y) {
  InputSums sums(kWidth);
  sums.rows = kTokens;
  const std::vector<double> all = products(y, kWidth, y, kWidth);
  for (std::int64_t i = 0, at = 0; i < kWidth; ++i)
    for (std::int64_t j = 0; j <= i; ++j) sums.products[at++] = all[i * kWidth + j];
  return sums;
}

TEST(InputCorrection, FindsTheChangeThatMadeTheOutputs) {
  const std::vector<float> y = normal(kTokens * kWidth, 1);
  const std::vector<float> change = normal(kRows * kWidth, 2);
  std::vector<float> wanted(kTokens * kRows);
  for (std::int64_t t = 0; t < kTokens; ++t)
    for (std::int64_t r = 0; r < kRows; ++r)
      for (std::int64_t k = 0; k < kWidth; ++k)
        wanted[t * kRows + r] += change[r * kWidth + k] * y[t * kWidth + k];
  const std::vector<double> sums = products(wanted, kRows, y, kWidth);
  std::vector<float> found(sums.begin(), sums.end());
  const InputCorrection correction(sums_of(y));
  correction.solve(kRows, found);
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    error += std::pow(static_cast<double>(found[i] - change[i]), 2);
    size += std::pow(static_cast<double>(change[i]), 2);
  }
  // The damping takes a thousandth, and a few times as much where the inputs are small.
  EXPECT_LT(error, 1e-5 * size);
  EXPECT_GT(error, 1e-9 * size);
}

TEST(InputCorrection, IsNothingWhereInputsAreZero) {
  std::vector<float> found = normal(kRows * kWidth, 3);
  InputSums none(kWidth);
  none.rows = kTokens;
  InputCorrection(none).solve(kRows, found);
  EXPECT_EQ(std::ranges::count(found, 0.0f), std::ssize(found));

  // A single dead input has no wanted products either.
  std::vector<float> y = normal(kTokens * kWidth, 1);
  for (std::int64_t t = 0; t < kTokens; ++t) y[t * kWidth + 5] = 0;
  std::vector<float> wanted = normal(kRows * kWidth, 4);
  for (std::int64_t r = 0; r < kRows; ++r) wanted[r * kWidth + 5] = 0;
  InputCorrection(sums_of(y)).solve(kRows, wanted);
  for (std::int64_t r = 0; r < kRows; ++r) EXPECT_EQ(wanted[r * kWidth + 5], 0);
  for (const float value : wanted) EXPECT_TRUE(std::isfinite(value));
}

TEST(InputCorrection, DoesNotDependOnTheNumberOfThreads) {
  const InputSums sums = sums_of(normal(kTokens * kWidth, 1));
  const std::vector<float> weights = normal(kRows * kWidth, 5);
  const std::vector<float> matrix = normal(kWidth * kWidth, 6);
  const auto solved = [&](int threads) {
    work_with_threads(threads);
    std::vector<float> found = multiply({kRows, kWidth, weights}, matrix);
    InputCorrection(sums).solve(kRows, found);
    work_with_threads(0);
    return found;
  };
  EXPECT_EQ(solved(1), solved(3));
}

TEST(TiledCholesky, FactorsAndRefuses) {
  const InputSums sums = sums_of(normal(kTokens * kWidth, 7));
  std::vector<double> factor(kWidth * kWidth, -7);
  for (std::int64_t i = 0, at = 0; i < kWidth; ++i)
    for (std::int64_t j = 0; j <= i; ++j) factor[i * kWidth + j] = sums.products[at++];
  ASSERT_TRUE(tiled_cholesky(kWidth, factor.data()));
  for (std::int64_t i = 0, at = 0; i < kWidth; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double product = 0;
      for (std::int64_t k = 0; k <= j; ++k) product += factor[i * kWidth + k] * factor[j * kWidth + k];
      EXPECT_NEAR(product, sums.products[at++], 1e-9 * kTokens);
    }
    for (std::int64_t j = i + 1; j < kWidth; ++j) EXPECT_EQ(factor[i * kWidth + j], -7);
  }
  // Of rank one.
  std::vector<float> singular(kWidth * kWidth, 1);
  EXPECT_FALSE(tiled_cholesky(kWidth, singular.data()));
}

}  // namespace
}  // namespace knapsaq
