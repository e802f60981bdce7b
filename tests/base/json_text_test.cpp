#include "knapsaq/base/json_text.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

TEST(PythonJson, HasNumbersThatAreNotFinite) {
  const nlohmann::json json = parse_python_json(
      R"({"a": Infinity, "list": [1, -Infinity, true, null, NaN, "Infinity", 2.5], "Infinity": -3, "b": NaN})");
  EXPECT_EQ(json["a"].get<double>(), INFINITY);
  EXPECT_EQ(json["list"][0], 1);
  EXPECT_EQ(json["list"][1].get<double>(), -INFINITY);
  EXPECT_EQ(json["list"][2], true);
  EXPECT_TRUE(json["list"][3].is_null());
  EXPECT_TRUE(std::isnan(json["list"][4].get<double>()));
  EXPECT_EQ(json["list"][5], "Infinity");
  EXPECT_EQ(json["list"][6], 2.5);
  EXPECT_EQ(json["Infinity"], -3);
  EXPECT_TRUE(std::isnan(json["b"].get<double>()));
  EXPECT_EQ(parse_python_json("Infinity").get<double>(), INFINITY);
  EXPECT_EQ(parse_python_json(R"({"a": "\"Infinity", "b": Infinity})")["a"], "\"Infinity");
}

TEST(PythonJson, LiteralsOnlyWhereValuesStand) {
  for (const char* text : {R"({Infinity: 1})", R"({"a" Infinity})", R"({"a": Infinity 1})", "[Infinity NaN]",
                           "[+Infinity]", "[Inf]", "[nan]", "[-NaN]", "[Infinity", "[\"Infinity]",
                           "{\"a\": Infinity,}", "Infinity Infinity", "[InfinityNaN]"})
    EXPECT_THROW(parse_python_json(text), InputError) << text;
  EXPECT_THROW(parse_json("[Infinity]"), InputError);
  EXPECT_THROW(parse_python_json(std::string(100000, '[')), InputError);
}

TEST(PythonJson, IsWrittenAsItIsRead) {
  for (const char* text :
       {R"({"a":Infinity,"b":[NaN,-Infinity,1.5,"NaN","special","special-"],"c":{"d":-Infinity}})",
        R"({"plain":[1,2.5,null,"x"]})", "NaN"}) {
    EXPECT_EQ(python_json_text(parse_python_json(text), -1), text);
    EXPECT_EQ(python_json_text(nlohmann::ordered_json(parse_python_json(text)), -1), text);
  }
}

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
