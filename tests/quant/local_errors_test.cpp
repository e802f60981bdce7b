#include "knapsaq/quant/local_errors.h"

#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/quantizer.h"
#include "made_inputs.h"
#include "made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kRows = 700;  // more than a task takes at once
constexpr std::int64_t kCols = 96;

RowShares some_shares() {
  RowShares shares(static_cast<std::size_t>(kRows));
  float sum = 0;
  for (std::size_t r = 0; r < shares.size(); ++r) {
    shares[r] = 0.01f + (r % 5 == 0 ? 100.0f / static_cast<float>(r + 1) : 0);
    sum += shares[r];
  }
  for (float& share : shares) share /= sum;
  return shares;
}

TEST(LocalErrors, LookupIsTheMeanOverTokensOfARowsError) {
  const MadeWeights weights("normal", kRows, kCols);
  const RowShares shares = some_shares();
  for (const char* scheme : {"rtn:b3g32", "rtn:b4g64/m8g128", "q4_0", "nf4"}) {
    SCOPED_TRACE(scheme);
    const StoredMatrix stored = quantize(weights.view(), parse_scheme(scheme));
    std::vector<float> row(static_cast<std::size_t>(kCols));
    double expected = 0;
    for (std::int64_t r = 0; r < kRows; ++r) {
      dequantize_row(stored, r, row);
      double squares = 0;
      for (std::size_t k = 0; k < row.size(); ++k) {
        const double error = static_cast<double>(weights.view().row(r)[k]) - static_cast<double>(row[k]);
        squares += error * error;
      }
      expected += squares * static_cast<double>(shares[static_cast<std::size_t>(r)]);
    }
    const LocalErrors plain = local_errors(weights.view(), stored, nullptr);
    const LocalErrors errors = local_errors(weights.view(), stored, nullptr, {}, shares);
    EXPECT_NEAR(errors.lookup, expected, 1e-6 * expected);
    // The others do not know of it.
    EXPECT_EQ(plain.lookup, 0);
    EXPECT_EQ(errors.fnorm, plain.fnorm);
    EXPECT_EQ(errors.relative, plain.relative);
    EXPECT_EQ(errors.hessian, 0);
    // Rows that count alike: the squared norm over the rows.
    const RowShares alike(static_cast<std::size_t>(kRows), 1.0f / static_cast<float>(kRows));
    EXPECT_NEAR(local_errors(weights.view(), stored, nullptr, {}, alike).lookup,
                plain.fnorm * plain.fnorm / static_cast<double>(kRows), 1e-6 * expected);
  }
}

TEST(LocalErrors, ATiedEmbeddingHasBoth) {
  const MadeWeights weights("normal", kRows, kCols);
  const InputStatistics inputs = made_inputs(kCols, 400, 3);
  const RowShares shares = some_shares();
  const StoredMatrix stored = quantize(weights.view(), parse_scheme("rtn:b3g32"));
  const LocalErrors both = local_errors(weights.view(), stored, &inputs, {}, shares);
  EXPECT_EQ(both.hessian, local_errors(weights.view(), stored, &inputs).hessian);
  EXPECT_EQ(both.lookup, local_errors(weights.view(), stored, nullptr, {}, shares).lookup);
  EXPECT_GT(both.hessian, 0);
  EXPECT_GT(both.lookup, 0);
  // What divides outputs leaves what is looked up alone.
  const std::vector<float> scales(static_cast<std::size_t>(kRows), 2.0f);
  const LocalErrors scaled = local_errors(weights.view(), stored, &inputs, scales, shares);
  EXPECT_NEAR(scaled.hessian, 4 * both.hessian, 1e-6 * scaled.hessian);
  EXPECT_EQ(scaled.lookup, both.lookup);
}

TEST(LocalErrors, DoNotDependOnThreads) {
  const MadeWeights weights("student", kRows, kCols);
  const InputStatistics inputs = made_inputs(kCols, 400, 3);
  const RowShares shares = some_shares();
  const StoredMatrix stored = quantize(weights.view(), parse_scheme("rtn:b3g32"));
  work_with_threads(1);
  const LocalErrors one = local_errors(weights.view(), stored, &inputs, {}, shares);
  work_with_threads(5);
  const LocalErrors five = local_errors(weights.view(), stored, &inputs, {}, shares);
  work_with_threads(0);
  EXPECT_EQ(one.lookup, five.lookup);
  EXPECT_EQ(one.hessian, five.hessian);
}

TEST(LocalErrors, SharesOfOtherRowsAreRefused) {
  const MadeWeights weights("normal", kRows, kCols);
  const StoredMatrix stored = quantize(weights.view(), parse_scheme("rtn:b3g32"));
  const RowShares few(static_cast<std::size_t>(kRows) - 1, 0.001f);
  EXPECT_THROW(local_errors(weights.view(), stored, nullptr, {}, few), InputError);
}

}  // namespace
}  // namespace knapsaq
