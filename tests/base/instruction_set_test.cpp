#include "knapsaq/base/instruction_set.h"

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

TEST(InstructionSet, TheVariableLowersAndNeverRaises) {
  using enum InstructionSet;
  EXPECT_EQ(parse_most_allowed(nullptr, portable), avx512) << "each kernel asks the processor itself";
  EXPECT_EQ(parse_most_allowed("portable", avx512), portable);
  EXPECT_EQ(parse_most_allowed("avx2", avx512), avx2);
  EXPECT_EQ(parse_most_allowed("avx2", avx2), avx2);
  EXPECT_EQ(parse_most_allowed("portable", portable), portable);
  EXPECT_THROW(parse_most_allowed("avx512", avx2), UsageError);
  EXPECT_THROW(parse_most_allowed("avx2", portable), UsageError);
}

TEST(InstructionSet, AnUnknownNameIsAnErrorThatListsTheNames) {
  for (const char* value : {"", "AVX2", "sse", "avx2 ", "avx512bf16"}) {
    try {
      parse_most_allowed(value, InstructionSet::avx512);
      FAIL() << value;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("portable, avx2 or avx512"), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace knapsaq
