#include "knapsaq/quant/local_errors.h"

#include <cmath>
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

/// Mean squares of made gradients.
std::vector<float> some_squares(std::int64_t count) {
  std::vector<float> squares;
  for (std::int64_t k = 0; k < count; ++k) squares.push_back(0.1f + static_cast<float>(k * k % 17));
  return squares;
}

TEST(LocalErrors, FisherIsItsFormula) {
  const MadeWeights weights("normal", kRows, kCols);
  const InputStatistics inputs = made_inputs(kCols, 400, 3);
  const RowShares shares = some_shares();
  const std::vector<float> product = some_squares(kRows);
  const std::vector<float> lookup = some_squares(kCols);
  const StoredMatrix stored = quantize(weights.view(), parse_scheme("rtn:b3g32"));
  double of_product = 0;
  double of_lookup = 0;
  double of_diagonal = 0;
  std::vector<float> row(static_cast<std::size_t>(kCols));
  for (std::int64_t r = 0; r < kRows; ++r) {
    dequantize_row(stored, r, row);
    std::vector<double> error;
    for (std::size_t k = 0; k < row.size(); ++k)
      error.push_back(static_cast<double>(weights.view().row(r)[k]) - static_cast<double>(row[k]));
    const double square = static_cast<double>(product[static_cast<std::size_t>(r)]);
    const double share = static_cast<double>(shares[static_cast<std::size_t>(r)]);
    for (std::size_t k = 0; k < error.size(); ++k) {
      for (std::size_t l = 0; l < error.size(); ++l)
        of_product +=
            square * error[k] * static_cast<double>(inputs.second_moment[k * error.size() + l]) * error[l];
      of_diagonal += square * error[k] * static_cast<double>(inputs.mean_square[k]) * error[k];
      of_lookup += share * static_cast<double>(lookup[k]) * error[k] * error[k];
    }
  }
  const auto fisher = [&](const InputStatistics* of_inputs, const GradientSquares& gradients) {
    return local_errors(weights.view(), stored, of_inputs, {}, shares, gradients).fisher;
  };
  EXPECT_NEAR(fisher(&inputs, {product, {}}), of_product / 2, 1e-5 * of_product);
  EXPECT_NEAR(fisher(nullptr, {{}, lookup}), of_lookup / 2, 1e-6 * of_lookup);
  EXPECT_NEAR(fisher(&inputs, {product, lookup}), (of_product + of_lookup) / 2,
              1e-5 * (of_product + of_lookup));
  InputStatistics diagonal = inputs;
  diagonal.second_moment.clear();
  EXPECT_NEAR(fisher(&diagonal, {product, {}}), of_diagonal / 2, 1e-6 * of_diagonal);
  // Unknown without gradients, and nothing else changes by them.
  const LocalErrors without = local_errors(weights.view(), stored, &inputs, {}, shares);
  const LocalErrors with = local_errors(weights.view(), stored, &inputs, {}, shares, {product, lookup});
  EXPECT_TRUE(std::isnan(without.fisher));
  EXPECT_EQ(with.hessian, without.hessian);
  EXPECT_EQ(with.lookup, without.lookup);
  EXPECT_THROW(fisher(&inputs, {lookup, {}}), InputError);
  EXPECT_THROW(fisher(&inputs, {{}, product}), InputError);
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
