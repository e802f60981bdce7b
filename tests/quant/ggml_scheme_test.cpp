#include <array>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {
namespace {

using Pair = std::pair<std::string, std::string>;

TEST(FittingScheme, IsWhatLlamaCppStoresWhereRowsAreNotWholeBlocks) {
  for (const auto& [asked, stored] :
       std::array{Pair{"q2_k", "q4_0"}, Pair{"q3_k", "q4_0"}, Pair{"q4_k", "q5_0"}, Pair{"q5_k", "q5_1"},
                  Pair{"q6_k", "q8_0"}, Pair{"q2_0", "q4_0"}, Pair{"q4_1", "q4_1"}, Pair{"q8_0", "q8_0"},
                  Pair{"iq4_nl", "iq4_nl"}, Pair{"iq4_xs", "iq4_nl"}, Pair{"iq3_s", "iq4_nl"},
                  Pair{"iq3_xxs", "iq4_nl"}, Pair{"iq2_s", "iq4_nl"}, Pair{"iq2_xs", "iq4_nl"},
                  Pair{"iq2_xxs", "iq4_nl"}, Pair{"iq1_m", "iq4_nl"}, Pair{"iq1_s", "iq4_nl"}}) {
    EXPECT_EQ(to_string(fitting(parse_scheme(asked), 96)), stored) << asked;
    EXPECT_EQ(fitting(parse_scheme(asked), 512), parse_scheme(asked));
  }
  EXPECT_EQ(fitting(parse_scheme("q2_0"), 896), parse_scheme("q2_0"));
}

TEST(FittingScheme, LeavesAffineSchemesAlone) {
  const Scheme scheme = parse_scheme("gptq:b4g128z");
  EXPECT_EQ(fitting(scheme, 100), scheme);
}

TEST(FittingScheme, NamesAWidthThatNoTypeHolds) {
  for (const std::string type : {"q4_k", "q8_0"}) {
    try {
      (void)fitting(parse_scheme(type), 1000);
      ADD_FAILURE() << type;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("1000"));
    }
  }
}

}  // namespace
}  // namespace knapsaq
