#include "knapsaq/search/correlation.h"

#include <cmath>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace knapsaq {
namespace {

TEST(Correlation, EqualsScipy) {
  std::ifstream file(KNAPSAQ_TEST_DATA "/search/surrogate_references.json");
  const auto references = nlohmann::json::parse(file).at("correlations");
  ASSERT_GE(references.size(), 6u);
  for (const auto& reference : references) {
    const auto a = reference.at("a").get<std::vector<double>>();
    const auto b = reference.at("b").get<std::vector<double>>();
    EXPECT_NEAR(rmse(a, b), reference.at("rmse"), 1e-12);
    EXPECT_NEAR(spearman(a, b), reference.at("spearman"), 1e-12);
    EXPECT_NEAR(kendall(a, b), reference.at("kendall"), 1e-12);
  }
}

TEST(Correlation, OrderAloneCounts) {
  const std::vector<double> a = {1, 2, 3, 4};
  const std::vector<double> grown = {1, 10, 100, 1000};
  const std::vector<double> reversed = {9, 7, 2, -5};
  EXPECT_DOUBLE_EQ(spearman(a, grown), 1);
  EXPECT_DOUBLE_EQ(kendall(a, grown), 1);
  EXPECT_DOUBLE_EQ(spearman(a, reversed), -1);
  EXPECT_DOUBLE_EQ(kendall(a, reversed), -1);
}

TEST(Correlation, OfWhatIsConstantThereIsNone) {
  const std::vector<double> constant = {2, 2, 2};
  const std::vector<double> rising = {1, 2, 3};
  EXPECT_TRUE(std::isnan(spearman(constant, rising)));
  EXPECT_TRUE(std::isnan(kendall(rising, constant)));
  EXPECT_TRUE(std::isnan(kendall(std::vector<double>{1}, std::vector<double>{1})));
  EXPECT_EQ(rmse({}, {}), 0);
}

}  // namespace
}  // namespace knapsaq
