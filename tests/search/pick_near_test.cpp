#include "knapsaq/search/pick_near.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace knapsaq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(PickNear, TakesTheBestWithinTheTolerance) {
  const std::vector<Outcome> outcomes = {{2.99, 0.5}, {3.004, 0.3}, {2.996, 0.4}, {3.006, 0.1}, {3.0, kNaN}};
  EXPECT_EQ(pick_near(outcomes, 3.0), 1u);
  EXPECT_EQ(pick_near(outcomes, 3.0, 0.01), 3u);
}

TEST(PickNear, OfEqualOnesTheSmallest) {
  const std::vector<Outcome> outcomes = {{3.004, 0.3}, {2.996, 0.3}, {3.0, 0.3}};
  EXPECT_EQ(pick_near(outcomes, 3.0), 1u);
}

TEST(PickNear, FallsBackToTheBestBelow) {
  const std::vector<Outcome> outcomes = {{2.5, 0.9}, {2.7, 0.6}, {2.8, 0.7}, {3.2, 0.1}};
  EXPECT_EQ(pick_near(outcomes, 3.0), 1u);
  EXPECT_EQ(pick_near(outcomes, 2.4), std::nullopt);
  EXPECT_EQ(pick_near({}, 3.0), std::nullopt);
}

}  // namespace
}  // namespace knapsaq
