// Drawing tokens: against a plain implementation of the same rules, and their properties.

#include "knapsaq/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> made_logits(std::size_t count, double spread, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(spread * random.normal());
  return logits;
}

/// Probabilities after temperature, top_k and top_p, by sorting everything.
std::map<std::int32_t, double> distribution(const std::vector<float>& logits, const SamplerOptions& options) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  const auto normalized = [&] {
    std::vector<double> shares;
    for (const std::int32_t id : order)
      shares.push_back(
          std::exp(static_cast<double>(logits[static_cast<std::size_t>(id)]) / options.temperature));
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (double& share : shares) share /= sum;
    return shares;
  };
  if (options.top_k > 0 && options.top_k < std::ssize(order))
    order.resize(static_cast<std::size_t>(options.top_k));
  const std::vector<double> shares = normalized();
  double sum = 0;
  std::size_t kept = 0;
  while (kept < order.size() && (kept == 0 || sum < options.top_p)) sum += shares[kept++];
  if (options.top_p < 1) order.resize(kept);
  const std::vector<double> final_shares = normalized();
  std::map<std::int32_t, double> result;
  for (std::size_t i = 0; i < order.size(); ++i) result[order[i]] = final_shares[i];
  return result;
}

TEST(Sampler, DrawsFromTheDistributionThatTheOptionsSay) {
  const std::vector<float> logits = made_logits(600, 2, 1);
  for (const SamplerOptions options :
       {SamplerOptions{.temperature = 1, .seed = 2},
        SamplerOptions{.temperature = 0.7, .top_k = 5, .seed = 2},
        SamplerOptions{.temperature = 1.3, .top_p = 0.5, .seed = 2},
        SamplerOptions{.temperature = 1, .top_p = 0.99, .seed = 2},  // more than the 256 looked at first
        SamplerOptions{.temperature = 0.9, .top_k = 40, .top_p = 0.8, .seed = 3},
        SamplerOptions{.temperature = 1, .top_k = 1, .seed = 3},
        SamplerOptions{.temperature = 1, .top_p = 1e-9, .seed = 3}}) {
    SCOPED_TRACE(::testing::Message() << options.temperature << " " << options.top_k << " " << options.top_p);
    const auto expected = distribution(logits, options);
    Sampler sampler(options);
    std::map<std::int32_t, int> drawn;
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i) ++drawn[sampler.draw(logits)];
    double chi_square = 0;
    int cells = 0;
    double rare_expected = 0;
    double rare_drawn = 0;
    for (const auto& [id, count] : drawn) ASSERT_TRUE(expected.contains(id)) << id;
    for (const auto& [id, share] : expected) {
      const double count = drawn.contains(id) ? drawn[id] : 0;
      if (share * kDraws < 5) {
        rare_expected += share * kDraws;
        rare_drawn += count;
        continue;
      }
      chi_square += std::pow(count - share * kDraws, 2) / (share * kDraws);
      ++cells;
    }
    if (rare_expected > 5) {
      chi_square += std::pow(rare_drawn - rare_expected, 2) / rare_expected;
      ++cells;
    }
    // Mean cells - 1, standard deviation sqrt(2 (cells - 1)): five of them.
    EXPECT_LE(chi_square, cells - 1 + 5 * std::sqrt(2.0 * cells));
  }
}

TEST(Sampler, KeepsExactlyTheNucleus) {
  // Shares 0.4, 0.3, 0.2, 0.1.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const auto possible = [&](SamplerOptions options) {
    options.temperature = 1;
    Sampler sampler(options);
    std::set<std::int32_t> ids;
    for (int i = 0; i < 500; ++i) ids.insert(sampler.draw(logits));
    return ids;
  };
  using Set = std::set<std::int32_t>;
  EXPECT_EQ(possible({.top_p = 0.39}), Set({1}));
  EXPECT_EQ(possible({.top_p = 0.41}), Set({1, 3}));
  EXPECT_EQ(possible({.top_p = 0.71}), Set({1, 2, 3}));
  EXPECT_EQ(possible({.top_k = 2}), Set({1, 3}));
  // Of what top_k left, 0.4 is 4/7.
  EXPECT_EQ(possible({.top_k = 2, .top_p = 0.55}), Set({1}));
  EXPECT_EQ(possible({.top_k = 9}), Set({0, 1, 2, 3}));
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler({});
  EXPECT_EQ(sampler.draw(std::vector<float>{1, 3, 2, 3}), 1);
  EXPECT_EQ(sampler.draw(std::vector<float>{-kInfinity, -3}), 1);
  // Ties at the edge of top_k go to the lower id, too.
  Sampler two({.temperature = 1, .top_k = 2});
  for (int i = 0; i < 100; ++i) EXPECT_LE(two.draw(std::vector<float>{2, 2, 2, 2}), 1);
}

TEST(Sampler, SameSeedSameTokens) {
  const std::vector<float> logits = made_logits(1000, 1, 5);
  const auto draws = [&](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_p = 0.9, .seed = seed});
    std::vector<std::int32_t> ids(50);
    for (auto& id : ids) id = sampler.draw(logits);
    return ids;
  };
  EXPECT_EQ(draws(1), draws(1));
  EXPECT_NE(draws(1), draws(2));
}

TEST(Sampler, LargeVocabulariesAndSmallTemperatures) {
  const std::vector<float> logits = made_logits(128256, 3, 6);
  const auto best =
      static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  EXPECT_EQ(Sampler({.temperature = 1e-300}).draw(logits), best);
  EXPECT_EQ(Sampler({.temperature = 1e-3, .top_k = 50, .top_p = 0.5}).draw(logits), best);
  // A temperature beyond all logits: everything is as likely as everything else.
  Sampler flat({.temperature = 1e300, .top_p = 0.999});
  std::set<std::int32_t> ids;
  for (int i = 0; i < 20; ++i) ids.insert(flat.draw(logits));
  EXPECT_GE(ids.size(), 19U);
}

TEST(Sampler, BrokenLogitsAndOptionsAreRefused) {
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature});
    EXPECT_THROW(sampler.draw(std::vector<float>{1, std::nanf(""), 2}), InputError);
    EXPECT_THROW(sampler.draw(std::vector<float>{std::nanf(""), 1}), InputError);
    EXPECT_THROW(sampler.draw(std::vector<float>{1, kInfinity}), InputError);
    EXPECT_THROW(sampler.draw(std::vector<float>{-kInfinity, -kInfinity}), InputError);
  }
  EXPECT_THROW(Sampler({.temperature = -1}), UsageError);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}), UsageError);
  EXPECT_THROW(Sampler({.top_k = -1}), UsageError);
  EXPECT_THROW(Sampler({.top_p = 0}), UsageError);
  EXPECT_THROW(Sampler({.top_p = 1.5}), UsageError);
  EXPECT_THROW(Sampler({.top_p = std::nan("")}), UsageError);
}

}  // namespace
}  // namespace knapsaq
