#include "knapsaq/base/instruction_set.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

/// The sets of a made-up family of processors, of which this one has those from `best` on.
std::array<InstructionSet, 4> sets_from(std::string_view best) {
  std::array<InstructionSet, 4> sets = {{{"wide_more"}, {"wide"}, {"narrow"}, {"portable"}}};
  bool supported = false;
  for (InstructionSet& set : sets) set.supported = supported = supported || set.name == best;
  return sets;
}

TEST(InstructionSet, TheVariableLowersAndNeverRaises) {
  EXPECT_EQ(parse_most_allowed(nullptr, sets_from("portable")), "wide_more")
      << "whether the processor has a set is another question";
  EXPECT_EQ(parse_most_allowed("portable", sets_from("wide_more")), "portable");
  EXPECT_EQ(parse_most_allowed("narrow", sets_from("wide_more")), "narrow");
  EXPECT_EQ(parse_most_allowed("narrow", sets_from("narrow")), "narrow");
  EXPECT_EQ(parse_most_allowed("portable", sets_from("portable")), "portable");
  EXPECT_THROW(parse_most_allowed("wide", sets_from("narrow")), UsageError);
  EXPECT_THROW(parse_most_allowed("narrow", sets_from("portable")), UsageError);
}

TEST(InstructionSet, ANameAllowsWhatRefinesItAndWhatIsBelow) {
  const auto sets = sets_from("wide_more");
  const auto of = [&](std::string_view most) {
    std::vector<std::string_view> names;
    for (const InstructionSet& set : sets) {
      if (allowed(set.name, most, sets)) names.push_back(set.name);
    }
    return names;
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(of("wide_more"), ElementsAre("wide_more", "wide", "narrow", "portable"));
  EXPECT_THAT(of("wide"), ElementsAre("wide_more", "wide", "narrow", "portable"));
  EXPECT_THAT(of("narrow"), ElementsAre("narrow", "portable"));
  EXPECT_THAT(of("portable"), ElementsAre("portable"));
  EXPECT_FALSE(allowed("unknown", "wide_more", sets));
}

TEST(InstructionSet, PortableIsTheLastAndAlwaysUsable) {
  EXPECT_EQ(instruction_sets().back().name, "portable");
  EXPECT_TRUE(usable("portable"));
  EXPECT_FALSE(usable("unknown"));
}

TEST(InstructionSet, AnUnknownNameIsAnErrorThatListsTheNames) {
  for (const char* value : {"", "NARROW", "sse", "narrow ", "wider"}) {
    try {
      parse_most_allowed(value, sets_from("wide"));
      FAIL() << value;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("wide_more, wide, narrow, portable"));
    }
  }
}

}  // namespace
}  // namespace knapsaq
