#include "knapsaq/base/pattern.h"

#include <string>

#include <gtest/gtest.h>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

TEST(Pattern, DescribesWholeTexts) {
  EXPECT_TRUE(matches_pattern("*.down_proj", "model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(matches_pattern("down_proj", "model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(matches_pattern("model.*", "xmodel.norm"));
  EXPECT_TRUE(matches_pattern("1?.*", "12.mlp.up_proj"));
  EXPECT_FALSE(matches_pattern("1?.*", "1.mlp.up_proj"));
  EXPECT_TRUE(matches_pattern("", ""));
  EXPECT_TRUE(matches_pattern("**", ""));
  EXPECT_FALSE(matches_pattern("?", ""));
}

TEST(Pattern, EqualsItsDefinition) {
  // By recursion over the definition.
  const auto defined = [](const auto& self, std::string_view pattern, std::string_view text) -> bool {
    if (pattern.empty()) return text.empty();
    if (pattern[0] == '*')
      return self(self, pattern.substr(1), text) || (!text.empty() && self(self, pattern, text.substr(1)));
    return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
           self(self, pattern.substr(1), text.substr(1));
  };
  Random random(12);
  int matched = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string pattern;
    std::string text;
    for (std::uint64_t n = random.below(7); n > 0; --n) pattern += "ab?*"[random.below(4)];
    for (std::uint64_t n = random.below(7); n > 0; --n) text += "ab"[random.below(2)];
    const bool expected = defined(defined, pattern, text);
    matched += expected;
    ASSERT_EQ(matches_pattern(pattern, text), expected) << pattern << " " << text;
  }
  EXPECT_GT(matched, 2000);
}

TEST(Pattern, ManyStarsTakeNoLongTime) {
  // |pattern| |text| steps; with a step back for every star it would not end.
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  EXPECT_TRUE(matches_pattern(pattern, std::string(10000, 'a')));
  EXPECT_FALSE(matches_pattern(pattern + "b", std::string(10000, 'a')));
}

}  // namespace
}  // namespace knapsaq
