#include "knapsaq/quant/scheme.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {
namespace {

TEST(Scheme, ReadsWhatItWrites) {
  for (const std::string method : {"hqq", "rtn", "uniform"}) {
    for (const int bits : kAffineWidths) {
      for (const int group : {0, 32, 64, 128}) {
        for (const Scheme& scheme : {Scheme{method, bits, group, ZeroPoint::real, 16, 0},
                                     Scheme{method, bits, group, ZeroPoint::symmetric, 16, 0},
                                     Scheme{method, bits, group, ZeroPoint::real, 8, 128}}) {
          EXPECT_EQ(parse_scheme(to_string(scheme)), scheme) << to_string(scheme);
        }
      }
    }
  }
}

TEST(Scheme, ReadsTheExamplesOfItsDocumentation) {
  EXPECT_EQ(parse_scheme("b4g64"), (Scheme{"hqq", 4, 64, ZeroPoint::real, 16, 0}));
  EXPECT_EQ(parse_scheme("hqq:b4g64"), (Scheme{"hqq", 4, 64, ZeroPoint::real, 16, 0}));
  EXPECT_EQ(parse_scheme("b3g128/m8g128"), (Scheme{"hqq", 3, 128, ZeroPoint::real, 8, 128}));
  EXPECT_EQ(parse_scheme("rtn:b4row"), (Scheme{"rtn", 4, 0, ZeroPoint::real, 16, 0}));
  EXPECT_EQ(parse_scheme("rtn:b8g32s"), (Scheme{"rtn", 8, 32, ZeroPoint::symmetric, 16, 0}));
}

TEST(Scheme, RefusesEverythingElseAndShowsTheGrammar) {
  for (const std::string text : {"",
                                 "b",
                                 "b4",
                                 "g64",
                                 "b4g",
                                 "b1g64",
                                 "b7g64",
                                 "b16g64",
                                 "b4g63",
                                 "b04g64",
                                 "b4g064",
                                 "b-4g64",
                                 "b4g64x",
                                 " b4g64",
                                 "B4G64",
                                 ":b4g64",
                                 "HQQ:b4g64",
                                 "hqq:",
                                 "b4g64/",
                                 "b4g64/m8",
                                 "b4g64/m8g",
                                 "b4g64/m4g128",
                                 "b4g64/m8g7",
                                 "b4g64s/m8g128",
                                 "b4rows/m8g128",
                                 "b99999999999g64",
                                 "hqq:hqq:b4g64"}) {
    EXPECT_THROW(parse_scheme(text), UsageError) << text;
  }
  try {
    parse_scheme(std::string("b4\n\x01") + std::string(1000, 'x'));
    FAIL();
  } catch (const UsageError& error) {
    const std::string what = error.what();
    EXPECT_THAT(what, testing::HasSubstr("hqq:b4g64"));
    EXPECT_THAT(what, testing::Not(testing::HasSubstr("\n")));
    EXPECT_LT(what.size(), 500u);
  }
}

TEST(Scheme, NominalBitsAreThePapers) {
  // MXQ Table 2: b4g64, b3g128 and so on with 8-bit metadata in groups of 128.
  EXPECT_NEAR(nominal_bits(parse_scheme("b4g32/m8g128"), 4096), 4.5078125, 1e-12);
  EXPECT_NEAR(nominal_bits(parse_scheme("b4g64/m8g128"), 4096), 4.25390625, 1e-12);
  EXPECT_NEAR(nominal_bits(parse_scheme("b3g128/m8g128"), 4096), 3.126953125, 1e-12);
  EXPECT_NEAR(nominal_bits(parse_scheme("b4g64"), 4096), 4.5, 1e-12);
  EXPECT_NEAR(nominal_bits(parse_scheme("b4row"), 4096), 4 + 32.0 / 4096, 1e-12);
}

TEST(Scheme, StorageIsNominalBitsWhereNothingIsRagged) {
  for (const Scheme& scheme : parse_menu("mxq").schemes) {
    EXPECT_EQ(static_cast<double>(storage_bytes(scheme, 4096, 11008)) * 8,
              nominal_bits(scheme, 11008) * 4096 * 11008)
        << to_string(scheme);
  }
  // The MXQ authors' own table: 5.015625 MiB for a 4096 x 4096 matrix in b2g32.
  EXPECT_EQ(static_cast<double>(storage_bytes(parse_scheme("b2g32/m8g128"), 4096, 4096)) / 1048576, 5.015625);
}

TEST(Menu, HasThePapersTwelveSchemes) {
  const Menu mxq = parse_menu("mxq");
  ASSERT_EQ(mxq.schemes.size(), 12u);
  EXPECT_EQ(to_string(mxq.schemes.front()), "hqq:b2g32/m8g128");
  EXPECT_EQ(to_string(mxq.schemes.back()), "hqq:b8g128/m8g128");
  const Menu f16 = parse_menu("mxq-f16");
  ASSERT_EQ(f16.schemes.size(), 12u);
  EXPECT_EQ(to_string(f16.schemes[4]), "hqq:b3g64");
}

TEST(Menu, ReadsListsAndRefusesMistakes) {
  const Menu menu = parse_menu(" b4g64, rtn:b3row ,uniform:b2row");
  ASSERT_EQ(menu.schemes.size(), 3u);
  EXPECT_EQ(menu.schemes[1].method, "rtn");
  EXPECT_THROW(parse_menu(""), UsageError);
  EXPECT_THROW(parse_menu("b4g64,"), UsageError);
  EXPECT_THROW(parse_menu("b4g64,,b3g64"), UsageError);
  EXPECT_THROW(parse_menu("b4g64,hqq:b4g64"), UsageError);
  EXPECT_THROW(parse_menu("mxq,b4g64"), UsageError);
}

}  // namespace
}  // namespace knapsaq
