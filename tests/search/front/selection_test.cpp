#include "knapsaq/search/front/selection.h"

#include <set>

#include <gmock/gmock.h>

#include "search/made_space.h"

namespace knapsaq {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Outcome kIdeal{0, 0};
constexpr Outcome kReference{1, 1};

/// Proposals whose points differ in the first variable, so that each costs a whole pass.
std::vector<Proposal> proposals(std::size_t count) {
  std::vector<Proposal> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back({{static_cast<std::uint8_t>(i)}, 0, 0});
  return result;
}

std::vector<std::size_t> select(const std::vector<Outcome>& outcomes, const std::vector<Outcome>& known,
                                std::size_t most) {
  const SearchSpace space = made_space(1);
  const std::vector<Proposal> all = proposals(outcomes.size());
  PrefixCost cost(space, all);
  return select_by_hypervolume(outcomes, known, kIdeal, kReference, 100, most, cost);
}

TEST(Selection, PicksWhatAddsMostFirst) {
  const std::vector<Outcome> outcomes = {{0.9, 0.9}, {0.5, 0.5}, {0.4, 0.9}};
  EXPECT_EQ(select(outcomes, {}, 1), (std::vector<std::size_t>{1}));
}

TEST(Selection, LeavesOutWhatAddsNothing) {
  const std::vector<Outcome> known = {{0.2, 0.2}};
  EXPECT_THAT(select({{0.3, 0.3}, {0.2, 0.2}, {2, 0.1}, {0.1, 2}}, known, 10), IsEmpty());
  EXPECT_THAT(select({{0.3, 0.3}, {0.1, 0.3}}, known, 10), ElementsAre(1u));
}

TEST(Selection, EveryOtherPickLooksAtRatios) {
  // Beside a known front, a halved divergence at the large end adds little area but much in logarithms.
  const std::vector<Outcome> known = {{0.1, 0.5}, {0.6, 0.002}};
  const std::vector<Outcome> outcomes = {{0.3, 0.35}, {0.65, 0.0005}, {0.32, 0.34}};
  EXPECT_THAT(select(outcomes, known, 2), ElementsAre(0u, 1u));
}

TEST(Selection, GainsAreThoseOfTheHypervolume) {
  // With one pick at a time, the pick is the one whose hypervolume is the largest.
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Outcome> known;
    for (int i = 0; i < 6; ++i) known.push_back({random.uniform(), random.uniform()});
    std::vector<Outcome> outcomes;
    for (int i = 0; i < 5; ++i) outcomes.push_back({random.uniform(), random.uniform()});
    const double before = hypervolume(known, kIdeal, kReference);
    double most = 0;
    for (const Outcome& one : outcomes) {
      std::vector<Outcome> with = known;
      with.push_back(one);
      most = std::max(most, hypervolume(with, kIdeal, kReference) - before);
    }
    const std::vector<std::size_t> picked = select(outcomes, known, 1);
    if (picked.empty()) {
      EXPECT_NEAR(most, 0, 1e-12);
      continue;
    }
    // The first pick is by plain divergence unless nothing adds any.
    std::vector<Outcome> with = known;
    with.push_back(outcomes[picked[0]]);
    EXPECT_NEAR(hypervolume(with, kIdeal, kReference) - before, most, 1e-12);
  }
}

TEST(PrefixCost, IsWhatComesBehindTheCommonBeginning) {
  const SearchSpace space = made_space(10);
  std::vector<Proposal> all(3, Proposal{space.largest(), 0, 0});
  all[1].point[9] = 0;
  all[2].point[0] = 0;
  PrefixCost cost(space, all);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(cost.of(i), 1);
  cost.pick(0);
  EXPECT_LT(cost.of(1), 0.5);
  EXPECT_GT(cost.of(1), 0);
  EXPECT_NEAR(cost.of(2), 1, 1e-12);
}

}  // namespace
}  // namespace knapsaq
