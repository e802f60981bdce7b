#include "knapsaq/search/measurement.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/summarize.h"

namespace knapsaq {
namespace {

Measurement made(std::vector<float> values, std::int64_t windows) {
  std::vector<RowComparison> tokens;
  for (const float value : values) tokens.push_back({value, value / 2, 2 * value, value < 1});
  return summarize(tokens, windows, Divergence::kl);
}

TEST(Measurement, NamesOfDivergences) {
  EXPECT_EQ(parse_divergence("kl"), Divergence::kl);
  EXPECT_EQ(parse_divergence(name_of(Divergence::jsd)), Divergence::jsd);
  EXPECT_THROW(parse_divergence("KL"), UsageError);
}

TEST(Measurement, MeansOfTokens) {
  const Measurement one = made({0.5f, 1.5f, 0.25f, 0.75f}, 2);
  EXPECT_EQ(one.tokens, 4);
  EXPECT_EQ(one.windows, 2);
  EXPECT_DOUBLE_EQ(one.kl, 0.75);
  EXPECT_DOUBLE_EQ(one.jsd, 0.375);
  EXPECT_DOUBLE_EQ(one.loss, 1.5);
  EXPECT_DOUBLE_EQ(one.perplexity(), std::exp(1.5));
  EXPECT_DOUBLE_EQ(one.agreement, 0.75);
  EXPECT_EQ(one.per_token, (std::vector<float>{0.5f, 1.5f, 0.25f, 0.75f}));
  const std::vector<RowComparison> tokens{{1, 0.25f, 0, true}};
  const Measurement other = summarize(tokens, 1, Divergence::jsd);
  EXPECT_EQ(other.per_token, std::vector<float>{0.25f});
  EXPECT_DOUBLE_EQ(other.value(Divergence::jsd), 0.25);
  EXPECT_DOUBLE_EQ(other.value(Divergence::kl), 1);
}

/// A model that overflows does so in one number or in all; what is measured of it is nothing.
TEST(Measurement, OneNumberThatIsNotFiniteSpoilsAll) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const RowComparison sound{1, 0.25f, 2, true};
  const auto finite = [&](const RowComparison& token, Divergence divergence) {
    const std::vector<RowComparison> tokens{sound, token, sound, sound};
    const Measurement measurement = summarize(tokens, 2, divergence);
    if (measurement.finite()) return true;
    EXPECT_TRUE(std::isnan(measurement.kl));
    EXPECT_TRUE(std::isnan(measurement.jsd));
    EXPECT_TRUE(std::isnan(measurement.loss));
    return false;
  };
  for (const Divergence divergence : {Divergence::kl, Divergence::jsd}) {
    EXPECT_TRUE(finite(sound, divergence));
    for (const float broken : {nan, infinity}) {
      EXPECT_FALSE(finite({broken, 0.25f, 2, true}, divergence));
      EXPECT_FALSE(finite({1, 0.25f, broken, true}, divergence));
      EXPECT_EQ(finite({1, broken, 2, true}, divergence), divergence == Divergence::kl);
    }
    EXPECT_FALSE(finite({1, 0.25f, 1e4f, true}, divergence)) << "a loss without a perplexity";
  }
}

TEST(Measurement, JoinedIsThatOfAllWindows) {
  Random random(3);
  std::vector<float> values(60);
  for (float& value : values) value = static_cast<float>(2 * random.uniform());
  const Measurement whole = made(values, 6);
  const Measurement first = made({values.begin(), values.begin() + 20}, 2);
  const Measurement then = made({values.begin() + 20, values.end()}, 4);
  const Measurement joined = join(first, then);
  EXPECT_EQ(joined.windows, 6);
  EXPECT_EQ(joined.tokens, 60);
  EXPECT_NEAR(joined.kl, whole.kl, 1e-14);
  EXPECT_NEAR(joined.jsd, whole.jsd, 1e-14);
  EXPECT_NEAR(joined.loss, whole.loss, 1e-14);
  EXPECT_NEAR(joined.agreement, whole.agreement, 1e-14);
  EXPECT_EQ(joined.per_token, whole.per_token);
  EXPECT_EQ(join(Measurement(), whole).per_token, whole.per_token);
  Measurement blind = then;
  blind.per_token.clear();
  EXPECT_TRUE(join(first, blind).per_token.empty()) << "half of the tokens would pass for all";
}

TEST(Measurement, PairedDifferenceByWindows) {
  // Differences of the windows' means: 1, 3.
  const Measurement a = made({2, 4, 5, 7}, 2);
  const Measurement b = made({1, 3, 3, 3}, 2);
  const PairedDifference difference = paired_difference(a, b, 2);
  EXPECT_DOUBLE_EQ(difference.mean, 2);
  EXPECT_DOUBLE_EQ(difference.standard_error, 1);  // deviation sqrt(2), two windows
  // Only what both have.
  const PairedDifference short_one = paired_difference(a, made({1, 3}, 1), 2);
  EXPECT_DOUBLE_EQ(short_one.mean, 1);
  EXPECT_EQ(short_one.standard_error, std::numeric_limits<double>::infinity());
  EXPECT_THROW(paired_difference(a, Measurement(), 2), std::invalid_argument);
  EXPECT_THROW(paired_difference(a, b, 3), std::invalid_argument);
}

TEST(Measurement, StandardErrorByWindows) {
  EXPECT_DOUBLE_EQ(standard_error(made({1, 3, 5, 7}, 2)), 2);  // means 2 and 6
  EXPECT_EQ(standard_error(made({1, 3}, 1)), 0);
  EXPECT_EQ(standard_error(Measurement()), 0);
}

}  // namespace
}  // namespace knapsaq
