#include "knapsaq/eval/kl_statistics.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace knapsaq {
namespace {

TEST(KlStatistics, OfAKnownSample) {
  // 0 .. 999 in an order that does not matter for quantiles; NumPy: numpy.quantile(range(1000), [.5, .99,
  // .999]).
  std::vector<float> tokens(1000);
  std::iota(tokens.rbegin(), tokens.rend(), 0.0f);
  const KlStatistics found = kl_statistics(tokens, 10);
  EXPECT_DOUBLE_EQ(found.mean, 499.5);
  EXPECT_DOUBLE_EQ(found.median, 499.5);
  EXPECT_NEAR(found.quantile_99, 989.01, 1e-9);
  EXPECT_NEAR(found.quantile_99_9, 998.001, 1e-9);
  EXPECT_EQ(found.largest, 999);
  // The means of ten windows are 49.5, 149.5, .. 949.5: numpy.std(.., ddof=1) / sqrt(10).
  EXPECT_NEAR(found.standard_error, 95.742710775, 1e-6);
}

TEST(KlStatistics, OfOneWindowAndOneToken) {
  const std::vector<float> tokens{0.5f};
  const KlStatistics found = kl_statistics(tokens, 1);
  EXPECT_EQ(found.mean, 0.5);
  EXPECT_EQ(found.standard_error, 0);
  EXPECT_EQ(found.median, 0.5);
  EXPECT_EQ(found.quantile_99_9, 0.5);
  EXPECT_EQ(found.largest, 0.5);
}

TEST(KlStatistics, OfWhatIsNotFiniteIsNothing) {
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> tokens{0.5f, wrong};
    EXPECT_TRUE(std::isnan(kl_statistics(tokens, 1).mean));
    EXPECT_TRUE(std::isnan(kl_statistics(tokens, 1).largest));
  }
}

TEST(KlStatistics, RefusesWhatIsNoWindows) {
  const std::vector<float> tokens{1, 2, 3};
  EXPECT_THROW(kl_statistics(tokens, 2), std::invalid_argument);
  EXPECT_THROW(kl_statistics(tokens, 0), std::invalid_argument);
  EXPECT_THROW(kl_statistics({}, 1), std::invalid_argument);
}

}  // namespace
}  // namespace knapsaq
