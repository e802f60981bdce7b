#include "knapsaq/tune/adam.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

// torch.optim.Adam(lr=0.1) on gradients 1, -2, 0.5 from 0.
TEST(Adam, MovesAsTorch) {
  Adam adam(1);
  std::vector<float> at(1);
  const double expected[] = {-0.1, -0.06338965, -0.04972058};
  const float gradients[] = {1, -2, 0.5f};
  for (int i = 0; i < 3; ++i) {
    adam.step(std::span(&gradients[i], 1), 0.1f, at);
    EXPECT_NEAR(at[0], expected[i], 1e-6);
  }
}

TEST(Adam, FindsTheMinimumOfAQuadratic) {
  Adam adam(40);
  Random random(1);
  std::vector<float> target(40);
  for (float& value : target) value = static_cast<float>(random.normal());
  std::vector<float> at(40);
  for (int step = 0; step < 400; ++step) {
    std::vector<float> gradient(40);
    for (std::size_t i = 0; i < 40; ++i) gradient[i] = static_cast<float>(i + 1) * (at[i] - target[i]);
    adam.step(gradient, cosine_rate(0.05f, step, 400), at);
  }
  for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(at[i], target[i], 1e-2);
}

TEST(Adam, IsTheSameWithAnyThreads) {
  std::vector<float> gradient(100000);
  Random random(2);
  for (float& value : gradient) value = static_cast<float>(random.normal());
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    Adam adam(gradient.size());
    std::vector<float>& at = results.emplace_back(gradient.size());
    for (int step = 0; step < 3; ++step) adam.step(gradient, 1e-3f, at);
  }
  work_with_threads(0);
  EXPECT_EQ(results[0], results[1]);
}

TEST(Adam, TheRateFallsToZero) {
  EXPECT_FLOAT_EQ(cosine_rate(2e-3f, 0, 100), 2e-3f);
  EXPECT_FLOAT_EQ(cosine_rate(2e-3f, 50, 100), 1e-3f);
  EXPECT_NEAR(cosine_rate(2e-3f, 100, 100), 0, 1e-9);
}

}  // namespace
}  // namespace knapsaq
