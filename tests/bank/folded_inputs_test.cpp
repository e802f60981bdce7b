#include "knapsaq/bank/folded_inputs.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

TEST(FoldedInputs, AChangeOfOutputsCostsTheSameAfterTheyAreDivided) {
  constexpr std::int64_t kWidth = 37;
  Random random(3);
  OutputStatistics outputs{"made", kWidth, 100, std::vector<float>(kWidth),
                           std::vector<float>(kWidth * kWidth)};
  std::vector<float> gradient(kWidth);
  for (int token = 0; token < 100; ++token) {
    for (float& g : gradient) g = static_cast<float>(random.normal());
    for (std::int64_t i = 0; i < kWidth; ++i) {
      outputs.mean_square[i] += gradient[i] * gradient[i] / 100;
      for (std::int64_t k = 0; k < kWidth; ++k)
        outputs.second_moment[i * kWidth + k] += gradient[i] * gradient[k] / 100;
    }
  }
  std::vector<float> scales(kWidth);
  std::vector<double> change(kWidth);
  for (float& s : scales) s = static_cast<float>(0.25 + 4 * random.uniform());
  for (double& d : change) d = random.normal();
  const OutputStatistics divided = of_divided_outputs(outputs, scales);
  double before = 0;
  double after = 0;
  for (std::int64_t i = 0; i < kWidth; ++i) {
    const double own = change[i] / static_cast<double>(scales[i]);
    EXPECT_NEAR(divided.mean_square[i], divided.second_moment[i * kWidth + i], 1e-5 * divided.mean_square[i]);
    for (std::int64_t k = 0; k < kWidth; ++k) {
      before += change[i] * change[k] * static_cast<double>(outputs.second_moment[i * kWidth + k]);
      after += own * change[k] / static_cast<double>(scales[k]) *
               static_cast<double>(divided.second_moment[i * kWidth + k]);
      EXPECT_EQ(divided.second_moment[i * kWidth + k], divided.second_moment[k * kWidth + i]);
    }
  }
  EXPECT_NEAR(after, before, 1e-5 * before);
  EXPECT_EQ(of_divided_outputs(outputs, {}).second_moment, outputs.second_moment);
}

}  // namespace
}  // namespace knapsaq
