#include "knapsaq/search/front.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

/// On a coarse grid, so that there are ties of all kinds.
std::vector<Outcome> some_outcomes(Random& random) {
  std::vector<Outcome> outcomes(random.below(60));
  const std::uint64_t grid = 2 + random.below(20);
  for (Outcome& outcome : outcomes) {
    outcome = {static_cast<double>(random.below(grid)), static_cast<double>(random.below(grid))};
    if (random.below(15) == 0) outcome.divergence = random.below(2) == 0 ? NAN : INFINITY;
    if (random.below(40) == 0) outcome.size = NAN;
  }
  return outcomes;
}

bool finite(const Outcome& a) { return std::isfinite(a.size) && std::isfinite(a.divergence); }

TEST(Front, IsWhatNothingElseBeatsOrEquals) {
  Random random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<Outcome> outcomes = some_outcomes(random);
    const std::vector<std::size_t> found = front(outcomes);
    std::vector<std::size_t> expected;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      const Outcome& a = outcomes[i];
      bool beaten = !finite(a);
      for (std::size_t k = 0; k < outcomes.size() && !beaten; ++k) {
        const Outcome& b = outcomes[k];
        if (k == i || !finite(b) || b.size > a.size || b.divergence > a.divergence) continue;
        beaten = b.size < a.size || b.divergence < a.divergence || k < i;
      }
      if (!beaten) expected.push_back(i);
    }
    std::sort(expected.begin(), expected.end(),
              [&](std::size_t a, std::size_t b) { return outcomes[a].size < outcomes[b].size; });
    ASSERT_EQ(found, expected);
    for (std::size_t i = 1; i < found.size(); ++i)
      ASSERT_LT(outcomes[found[i]].divergence, outcomes[found[i - 1]].divergence);
  }
}

/// The dominated share of the grid's unit cells, counted one by one.
double counted(const std::vector<Outcome>& outcomes, const Outcome& ideal, const Outcome& reference) {
  double cells = 0;
  for (double x = ideal.size; x < reference.size; ++x)
    for (double y = ideal.divergence; y < reference.divergence; ++y)
      cells += std::any_of(outcomes.begin(), outcomes.end(),
                           [&](const Outcome& a) { return finite(a) && a.size <= x && a.divergence <= y; });
  return cells / ((reference.size - ideal.size) * (reference.divergence - ideal.divergence));
}

TEST(Hypervolume, IsTheDominatedShare) {
  Random random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::vector<Outcome> outcomes = some_outcomes(random);
    const Outcome ideal = {static_cast<double>(random.below(5)) - 2,
                           static_cast<double>(random.below(5)) - 2};
    const Outcome reference = {ideal.size + 1 + static_cast<double>(random.below(20)),
                               ideal.divergence + 1 + static_cast<double>(random.below(20))};
    ASSERT_NEAR(hypervolume(outcomes, ideal, reference), counted(outcomes, ideal, reference), 1e-12);
  }
}

TEST(Hypervolume, NeverFallsWhenOutcomesAreAdded) {
  Random random(3);
  std::vector<Outcome> outcomes;
  double before = 0;
  for (int i = 0; i < 500; ++i) {
    outcomes.push_back({random.normal(), random.normal()});
    const double now = hypervolume(outcomes, {-1, -1}, {2, 2});
    EXPECT_GE(now, before - 1e-12);
    before = now;
  }
  EXPECT_GT(before, 0.5);
  EXPECT_LE(before, 1);
}

TEST(Hypervolume, OfEdges) {
  const std::vector<Outcome> one = {{1, 1}};
  EXPECT_EQ(hypervolume({}, {0, 0}, {2, 2}), 0);
  EXPECT_EQ(hypervolume(one, {0, 0}, {2, 2}), 0.25);
  EXPECT_EQ(hypervolume(one, {1, 1}, {2, 2}), 1);
  EXPECT_EQ(hypervolume(one, {0, 0}, {1, 2}), 0);
  EXPECT_EQ(hypervolume(one, {0, 0}, {0, 2}), 0);
  EXPECT_EQ(hypervolume(one, {0, 0}, {2, INFINITY}), 0);
}

}  // namespace
}  // namespace knapsaq
