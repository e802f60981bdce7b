#include "knapsaq/base/json_text.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

using nlohmann::json;

TEST(WholeNumber, IsWithinItsBounds) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(whole_number(json::parse("7"), "n", 7, 7), 7);
  EXPECT_EQ(whole_number(json::parse("-7"), "n", -7, 0), -7);
  EXPECT_EQ(whole_number(json::parse("9223372036854775807"), "n", 0, kMost), kMost);
  EXPECT_EQ(whole_number(json::parse("-9223372036854775808"), "n", kLeast, kMost), kLeast);
  for (const char* text : {"8", "6", "7.0", "7.5", "true", "null", "\"7\"", "[7]", "1e300", "-1",
                           "9223372036854775808", "18446744073709551615", "18446744073709551623"}) {
    EXPECT_THROW(whole_number(json::parse(text), "n", 7, 7), InputError) << text;
  }
  for (const char* text : {"9223372036854775808", "18446744073709551615", "1e18"})
    EXPECT_THROW(whole_number(json::parse(text), "n", kLeast, kMost), InputError) << text;
}

TEST(WholeNumber, QuotesWhatItFinds) {
  try {
    whole_number(json("a\nb"), "n", 1, 2);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), R"(n is '"a\nb"', not a whole number from 1 to 2)");
  }
}

}  // namespace
}  // namespace knapsaq
