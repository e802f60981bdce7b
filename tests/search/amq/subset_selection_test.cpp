#include "knapsaq/search/amq/subset_selection.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace knapsaq {
namespace {

double deviation_with(const std::vector<double>& candidates, const std::vector<std::size_t>& chosen,
                      std::vector<double> front) {
  for (const std::size_t i : chosen) front.push_back(candidates[i]);
  return gap_deviation(front);
}

TEST(SubsetSelection, GapsOfAKnownExample) {
  EXPECT_DOUBLE_EQ(gap_deviation({3, 0, 1}), 0.5);  // gaps 1 and 2
  EXPECT_DOUBLE_EQ(gap_deviation({4, 0, 2}), 0);
  EXPECT_EQ(gap_deviation({1}), 0);
}

TEST(SubsetSelection, FillsTheGapsOfTheFront) {
  // Candidates crowd at one end; three of them lie where the front has holes.
  std::vector<double> candidates = {0.5, 1.5, 2.5};
  for (int i = 0; i < 17; ++i) candidates.push_back(0.01 * i);
  const std::vector<double> front = {0, 1, 2, 3};
  Random random(1);
  EXPECT_THAT(select_subset(candidates, front, 3, {}, random), testing::ElementsAre(0, 1, 2));
}

TEST(SubsetSelection, BeatsRandomChoicesAndIsNearTheBest) {
  Random random(2);
  for (int trial = 0; trial < 10; ++trial) {
    std::vector<double> candidates(12);
    for (double& size : candidates) size = random.uniform();
    const std::vector<double> front = {0, 0.3, 1};
    const std::vector<std::size_t> chosen = select_subset(candidates, front, 5, {}, random);
    ASSERT_EQ(std::set<std::size_t>(chosen.begin(), chosen.end()).size(), 5u);
    EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
    double best = 1;
    for (unsigned bits = 0; bits < 1u << 12; ++bits) {  // all 792 subsets of five
      std::vector<std::size_t> subset;
      for (std::size_t i = 0; i < 12; ++i)
        if (bits >> i & 1) subset.push_back(i);
      if (subset.size() == 5) best = std::min(best, deviation_with(candidates, subset, front));
    }
    EXPECT_LE(deviation_with(candidates, chosen, front), 1.05 * best);
  }
}

TEST(SubsetSelection, TakesAllThereAre) {
  Random random(3);
  const std::vector<double> candidates = {3, 1, 2};
  EXPECT_THAT(select_subset(candidates, {}, 3, {}, random), testing::ElementsAre(0, 1, 2));
  EXPECT_THAT(select_subset(candidates, {}, 0, {}, random), testing::IsEmpty());
  EXPECT_THAT(select_subset({}, candidates, 5, {}, random), testing::IsEmpty());
}

}  // namespace
}  // namespace knapsaq
