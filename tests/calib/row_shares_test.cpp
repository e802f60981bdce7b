#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/calib/input_statistics.h"

namespace knapsaq {
namespace {

TEST(RowShares, AreHalfATokenMoreThanWasCounted) {
  const RowShares shares = shares_of(std::array<std::int64_t, 4>{3, 0, 0, 5});
  ASSERT_EQ(shares.size(), 4U);
  EXPECT_FLOAT_EQ(shares[0], 0.35f);
  EXPECT_FLOAT_EQ(shares[1], 0.05f);
  EXPECT_FLOAT_EQ(shares[3], 0.55f);
  // Of no tokens: all alike.
  for (const float share : shares_of(std::array<std::int64_t, 5>{})) EXPECT_FLOAT_EQ(share, 0.2f);
  // Counts as large as texts are leave the rare ones a share.
  const RowShares many = shares_of(std::array<std::int64_t, 2>{std::int64_t{1} << 40, 0});
  EXPECT_GT(many[1], 0);
  EXPECT_FLOAT_EQ(many[0], 1);
}

TEST(ColumnsAlike, AreMeanSquaresOfOne) {
  const InputStatistics inputs = columns_alike("model.embed_tokens", 3);
  EXPECT_EQ(inputs.name, "model.embed_tokens");
  EXPECT_EQ(inputs.width, 3);
  EXPECT_EQ(inputs.mean_square, (std::vector<float>{1, 1, 1}));
  EXPECT_TRUE(inputs.second_moment.empty());
}

}  // namespace
}  // namespace knapsaq
