#include "knapsaq/base/quote.h"

#include <gtest/gtest.h>

namespace knapsaq {
namespace {

TEST(Quote, IsOnePrintableLineOfUtf8) {
  EXPECT_EQ(in_quotes("model.norm"), "'model.norm'");
  EXPECT_EQ(in_quotes("a\nb\x7F"), "'a\\x0ab\\x7f'");
  EXPECT_EQ(in_quotes("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"), "'\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80'");
  // Overlong, surrogate, above U+10FFFF, cut off, continuation alone.
  EXPECT_EQ(in_quotes("\xC0\x80"), "'\\xc0\\x80'");
  EXPECT_EQ(in_quotes("\xED\xA0\x80"), "'\\xed\\xa0\\x80'");
  EXPECT_EQ(in_quotes("\xF4\x90\x80\x80"), "'\\xf4\\x90\\x80\\x80'");
  EXPECT_EQ(in_quotes("\xE2\x82"), "'\\xe2\\x82'");
}

TEST(Quote, CutsWhatIsLongButNoCharacter) {
  EXPECT_EQ(in_quotes(std::string(160, 'x')), "'" + std::string(160, 'x') + "'");
  EXPECT_EQ(in_quotes(std::string(161, 'x')), "'" + std::string(160, 'x') + "...'");
  EXPECT_EQ(in_quotes(std::string(159, 'x') + "\xC3\xA4" + "yy"),
            "'" + std::string(159, 'x') + "\xC3\xA4...'");
}

TEST(InShell, QuotesWhatAShellWouldRead) {
  EXPECT_EQ(in_shell("models/llama-2.7_b,x:1+@%="), "models/llama-2.7_b,x:1+@%=");
  EXPECT_EQ(in_shell("two words"), "'two words'");
  EXPECT_EQ(in_shell("it's"), "'it'\\''s'");
  EXPECT_EQ(in_shell("$HOME;`x`"), "'$HOME;`x`'");
  EXPECT_EQ(in_shell(""), "''");
}

}  // namespace
}  // namespace knapsaq
