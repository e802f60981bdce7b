#include "knapsaq/search/statistics.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

nlohmann::json references() {
  std::ifstream file(std::string(KNAPSAQ_TEST_DATA) + "/search/statistics_references.json");
  return nlohmann::json::parse(file);
}

/// Relative where p is small.
void expect_close(double value, double reference, double tolerance) {
  EXPECT_NEAR(value, reference, tolerance * std::abs(reference) + 1e-300);
}

TEST(Statistics, EqualsScipy) {
  const nlohmann::json all = references();
  ASSERT_GE(all["cases"].size(), 30U);
  int exact = 0;
  for (const nlohmann::json& one : all["cases"]) {
    const std::vector<double> a = one["a"];
    const std::vector<double> b = one["b"];
    SCOPED_TRACE(one["a"].dump() + " " + one["b"].dump());
    const RankSum sums = rank_sum(a, b);
    EXPECT_NEAR(sums.z, one["z"].get<double>(), 1e-12);
    expect_close(sums.p, one["p"], 1e-11);
    const MannWhitney asymptotic = mann_whitney(a, b, PValue::asymptotic);
    EXPECT_FALSE(asymptotic.exact);
    EXPECT_EQ(asymptotic.u, one["u"].get<double>());
    // SciPy has no variance and no p for samples of one value all over.
    if (!one["p_asymptotic"].is_null() && std::isfinite(one["p_asymptotic"].get<double>()))
      expect_close(asymptotic.p, one["p_asymptotic"], 1e-11);
    if (!one["p_exact"].is_null()) {
      expect_close(mann_whitney(a, b, PValue::exact).p, one["p_exact"], 1e-10);
      ++exact;
    }
    EXPECT_DOUBLE_EQ(vargha_delaney(a, b), one["a_larger"].get<double>());
    const Spread of_a = spread(a);
    EXPECT_EQ(of_a.count, a.size());
    EXPECT_NEAR(of_a.mean, one["mean"].get<double>(), 1e-12);
    EXPECT_NEAR(of_a.deviation, one["deviation"].get<double>(), 1e-12);
    const double quantiles[] = {of_a.minimum, of_a.lower, of_a.median, of_a.upper, of_a.maximum};
    for (std::size_t q = 0; q < 5; ++q) EXPECT_NEAR(quantiles[q], one["quantiles"][q].get<double>(), 1e-12);
  }
  EXPECT_GE(exact, 25);
}

TEST(Statistics, HolmEqualsStatsmodels) {
  const nlohmann::json all = references();
  for (const nlohmann::json& family : all["families"]) {
    const std::vector<double> adjusted = holm(family["p"].get<std::vector<double>>());
    ASSERT_EQ(adjusted.size(), family["holm"].size());
    for (std::size_t i = 0; i < adjusted.size(); ++i)
      EXPECT_NEAR(adjusted[i], family["holm"][i].get<double>(), 1e-14);
  }
  EXPECT_TRUE(holm({}).empty());
}

TEST(MannWhitney, ExactIsTheShareOfAllOrders) {
  // Every way to take 4 ranks of 9: two-sided p is the share with U at least as far from the middle.
  const std::vector<double> a = {1, 2, 4, 8};
  const std::vector<double> b = {3, 5, 6, 7, 9};
  const MannWhitney result = mann_whitney(a, b, PValue::exact);
  const double distance = std::abs(result.u - 10);
  int all = 0;
  int as_far = 0;
  for (unsigned word = 0; word < 512; ++word) {
    double ranks = 0;
    int taken = 0;
    for (unsigned i = 0; i < 9; ++i) {
      if ((word >> i & 1U) == 0) continue;
      ranks += i + 1;
      ++taken;
    }
    if (taken != 4) continue;
    ++all;
    if (std::abs(ranks - 10 - 10) >= distance) ++as_far;
  }
  EXPECT_EQ(all, 126);
  EXPECT_NEAR(result.p, static_cast<double>(as_far) / all, 1e-14);
}

TEST(MannWhitney, ChoosesByItself) {
  std::vector<double> a;
  std::vector<double> b;
  for (int i = 0; i < 20; ++i) {
    a.push_back(2 * i);
    b.push_back(2 * i + 1);
  }
  EXPECT_TRUE(mann_whitney(a, b).exact);
  a.push_back(100);
  EXPECT_FALSE(mann_whitney(a, b).exact);
  a.back() = b.back();
  a.erase(a.begin());
  EXPECT_FALSE(mann_whitney(a, b).exact) << "tied";
}

TEST(Statistics, SwappedSamplesAndMonotoneFunctions) {
  Random random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> a(1 + random.below(12));
    std::vector<double> b(1 + random.below(12));
    for (double& value : a) value = std::floor(8 * random.uniform());
    for (double& value : b) value = std::floor(8 * random.uniform()) + 1;
    const RankSum sums = rank_sum(a, b);
    EXPECT_NEAR(rank_sum(b, a).z, -sums.z, 1e-12);
    EXPECT_NEAR(vargha_delaney(a, b) + vargha_delaney(b, a), 1, 1e-12);
    EXPECT_NEAR(mann_whitney(a, b).p, mann_whitney(b, a).p, 1e-12);
    std::vector<double> exp_a = a;
    std::vector<double> exp_b = b;
    for (double& value : exp_a) value = std::exp(value);
    for (double& value : exp_b) value = std::exp(value);
    EXPECT_EQ(rank_sum(exp_a, exp_b).p, sums.p);
    EXPECT_EQ(mann_whitney(exp_a, exp_b).u, mann_whitney(a, b).u);
  }
}

TEST(Statistics, SamplesThatCannotDiffer) {
  const std::vector<double> same = {2, 2, 2};
  EXPECT_EQ(rank_sum(same, same).p, 1);
  EXPECT_EQ(mann_whitney(same, same).p, 1);
  EXPECT_EQ(vargha_delaney(same, same), 0.5);
  EXPECT_EQ(spread(std::vector<double>{7}).deviation, 0);
}

TEST(Statistics, MedianIsTheMiddleOrBetweenTheMiddleTwo) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({8, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({INFINITY, 1, INFINITY}), INFINITY);
  Random random(4);
  std::vector<double> values;
  for (int i = 0; i < 30; ++i) {
    values.push_back(random.normal());
    EXPECT_DOUBLE_EQ(median(values), spread(values).median);
  }
}

TEST(Statistics, RefusesEmptySamplesAndWhatIsNoNumber) {
  const std::vector<double> good = {1, 2};
  const std::vector<double> bad = {1, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THROW(spread({}), UsageError);
  EXPECT_THROW(spread(bad), UsageError);
  EXPECT_THROW(rank_sum(good, {}), UsageError);
  EXPECT_THROW(mann_whitney(bad, good), UsageError);
  EXPECT_THROW(vargha_delaney({}, good), UsageError);
}

}  // namespace
}  // namespace knapsaq
