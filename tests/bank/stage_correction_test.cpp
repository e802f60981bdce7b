#include "knapsaq/bank/stage_correction.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kIn = 12;
constexpr std::int64_t kOut = 7;

/// Sums over tokens with random inputs y, the errors of which are `error(y, k)` and of the residual stream
/// `residual(y, r)`.
using ErrorOf = std::function<double(const std::vector<double>& y, std::int64_t at)>;
PairedSums sums_of(std::int64_t tokens, std::uint64_t seed, const ErrorOf& error,
                   const ErrorOf& residual = {}) {
  PairedSums sums{InputSums(kIn), std::vector<float>(kIn * kIn), {}};
  if (residual) sums.residual_errors.resize(kOut * kIn);
  sums.quantized.rows = static_cast<std::uint64_t>(tokens);
  Random random(seed);
  std::vector<double> y(kIn);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (double& value : y) value = random.normal();
    for (std::int64_t i = 0, at = 0; i < kIn; ++i)
      for (std::int64_t j = 0; j <= i; ++j) sums.quantized.products[at++] += y[i] * y[j];
    const auto add = [&](const ErrorOf& of, std::vector<float>& to) {
      for (std::int64_t i = 0; i < std::ssize(to) / kIn; ++i) {
        const double e = of(y, i);
        for (std::int64_t j = 0; j < kIn; ++j) to[i * kIn + j] += static_cast<float>(e * y[j]);
      }
    };
    add(error, sums.errors);
    if (residual) add(residual, sums.residual_errors);
  }
  return sums;
}

Matrix first() {
  Matrix matrix;
  matrix.name = "m";
  matrix.out = kOut;
  matrix.in = kIn;
  return matrix;
}

std::vector<float> random_weights() {
  Random random(3);
  std::vector<float> weights(kOut * kIn);
  for (float& weight : weights) weight = static_cast<float>(random.normal());
  return weights;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i] - b[i]), 2);
  return std::sqrt(sum);
}

/// x_k = y_k + 0.3 y_{k-1}: a fact about all tokens.
double shifted(const std::vector<double>& y, std::int64_t k) { return 0.3 * y[(k + kIn - 1) % kIn]; }
/// The residual stream lacks half of the first inputs.
double half(const std::vector<double>& y, std::int64_t r) { return 0.5 * y[r]; }

TEST(StageCorrection, MakesUpForErrorsThatInputsTell) {
  const std::vector<float> weights = random_weights();
  std::vector<float> expected = weights;
  for (std::int64_t r = 0; r < kOut; ++r) {
    for (std::int64_t k = 0; k < kIn; ++k)
      expected[r * kIn + (k + kIn - 1) % kIn] += 0.3f * weights[r * kIn + k];
    expected[r * kIn + r] += 0.5f;
  }
  const StageCorrection correction({first(), sums_of(600, 1, shifted, half), sums_of(200, 2, shifted, half)},
                                   1);
  const std::vector<float> corrected = correction.corrected({kOut, kIn, weights});
  EXPECT_LT(distance(corrected, expected), 0.01 * distance(weights, expected));

  const StageCorrection none({first(), sums_of(600, 1, shifted, half), sums_of(200, 2, shifted, half)}, 0);
  EXPECT_EQ(none.corrected({kOut, kIn, weights}), weights);
}

TEST(StageCorrection, LeavesOutWhatOtherWindowsDoNotConfirm) {
  const std::vector<float> weights = random_weights();
  // Errors without any relation to the inputs: 16 tokens make one up for 12 inputs.
  Random noise(9);
  const ErrorOf unrelated = [&](const std::vector<double>&, std::int64_t) { return noise.normal(); };
  const auto change = [&](PairedSums fit, PairedSums judge) {
    return distance(
        StageCorrection({first(), std::move(fit), std::move(judge)}, 1).corrected({kOut, kIn, weights}),
        weights);
  };
  const PairedSums few = sums_of(16, 1, unrelated);
  const double believed = change(few, few);
  const double judged = change(few, sums_of(4000, 2, unrelated));
  EXPECT_LT(judged, 0.05 * believed);
  // The residual stream's alone are left out, and the input's are not.
  const double half_believed =
      change(sums_of(600, 1, shifted, unrelated), sums_of(200, 2, shifted, unrelated));
  EXPECT_NEAR(half_believed, change(sums_of(600, 1, shifted), sums_of(200, 2, shifted)), 0.1 * half_believed);
  // Without windows to judge by, nothing is changed.
  EXPECT_EQ(change(sums_of(600, 1, shifted), sums_of(0, 2, shifted)), 0);
}

}  // namespace
}  // namespace knapsaq
