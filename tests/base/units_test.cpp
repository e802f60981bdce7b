#include "knapsaq/base/units.h"

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

TEST(Units, ReadsSizesAsPeopleWriteThem) {
  EXPECT_EQ(parse_bytes("4200000"), 4200000u);
  EXPECT_EQ(parse_bytes("4.2MiB"), 4404019u);
  EXPECT_EQ(parse_bytes("1.5GB"), 1500000000u);
  EXPECT_EQ(parse_bytes("700 kB"), 700000u);
  EXPECT_EQ(parse_bytes("2gib"), std::uint64_t{2} << 30);
  EXPECT_EQ(parse_bytes("0"), 0u);
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "MiB", "-3", "4.2.1", "12 parsecs", "1e400", "nan", "inf", "99999999999TB", "0x10"})
    EXPECT_THROW(parse_bytes(text), UsageError) << text;
}

TEST(Units, WritesSizesAndTimes) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(4404019), "4.20 MiB");
  EXPECT_EQ(format_seconds(0.84), "0.8 s");
  EXPECT_EQ(format_seconds(185), "3 min 05 s");
  EXPECT_EQ(format_seconds(8040), "2 h 14 min");
}

}  // namespace
}  // namespace knapsaq
