// Bytes that are no text in UTF-8: what they look like, and that nothing else is refused.

#include "knapsaq/base/text_encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::string_literals;

/// `text` (UTF-8) in UTF-16 or UTF-32, `width` bytes a unit.
std::string wide(std::string_view text, int width, bool big) {
  std::string out;
  const auto put = [&](std::uint32_t unit) {
    for (int i = 0; i < width; ++i) out += static_cast<char>(unit >> (8 * (big ? width - 1 - i : i)));
  };
  for (std::size_t at = 0, length = 0; at < text.size(); at += length) {
    const char32_t c = utf8_decode(text, at, length);
    if (width == 2 && c > 0xFFFF) {
      put(0xD800 + ((c - 0x10000) >> 10));
      put(0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      put(c);
    }
  }
  return out;
}

constexpr std::string_view kEnglish =
    "It was the best of times, it was the worst of times.\nAn age of wisdom.\n";
constexpr std::string_view kMixed = "Größe, naïve café 😀 – Привет, мир! 東京は日本の首都です。\n";
constexpr std::string_view kChinese =
    "东京是日本的首都，也是世界上人口最多的城市之一。这里没有一个字母，也没有数字。";

TEST(TextEncoding, Utf8IsAText) {
  for (const std::string_view text : {kEnglish, kMixed, kChinese, std::string_view("")})
    EXPECT_EQ(why_not_utf8(text, "f"), "") << text;
  EXPECT_EQ(why_not_utf8(std::string(kEnglish) + "a\0b"s, "f"), "");  // one NUL is a character
  EXPECT_EQ(why_not_utf8("GGUF is a file format, ggml a library, and PK\x03\x04 a mark"s, "f"), "");
}

TEST(TextEncoding, WideCharactersWithAndWithoutAMark) {
  for (const std::string_view text : {kEnglish, kMixed, kChinese}) {
    SCOPED_TRACE(text);
    for (const bool big : {false, true}) {
      const char* order = big ? "big-endian" : "little-endian";
      const std::string sixteen = wide(text, 2, big);
      const std::string mark16 = big ? "\xFE\xFF"s : "\xFF\xFE"s;
      EXPECT_THAT(why_not_utf8(sixteen, "f"), AllOf(HasSubstr("UTF-16"), HasSubstr(order)));
      EXPECT_THAT(why_not_utf8(sixteen, "f"), HasSubstr(big ? "iconv -f UTF-16BE -t UTF-8 f > f.utf8"
                                                            : "iconv -f UTF-16LE -t UTF-8 f > f.utf8"));
      EXPECT_THAT(why_not_utf8(mark16 + sixteen, "f"), AllOf(HasSubstr("UTF-16"), HasSubstr(order)));
      const std::string thirty_two = wide(text, 4, big);
      const std::string mark32 = big ? "\0\0\xFE\xFF"s : "\xFF\xFE\0\0"s;
      EXPECT_THAT(why_not_utf8(thirty_two, "f"), AllOf(HasSubstr("UTF-32"), HasSubstr(order)));
      EXPECT_THAT(why_not_utf8(mark32 + thirty_two, "f"), AllOf(HasSubstr("UTF-32"), HasSubstr(order)));
    }
  }
}

TEST(TextEncoding, OlderEncodingsBinaryDataAndDamage) {
  EXPECT_THAT(
      why_not_utf8("Gr\xF6\xDF"
                   "e und caf\xE9, na\xEFve",
                   "my text"),
      AllOf(HasSubstr("Latin-1"), HasSubstr("iconv -f ISO-8859-1 -t UTF-8 'my text' > 'my text.utf8'")));
  EXPECT_THAT(why_not_utf8("\x93quoted\x94 caf\xE9", ""),
              AllOf(HasSubstr("Windows-1252"), HasSubstr("iconv -f WINDOWS-1252 -t UTF-8")));
  // Windows-1251 and GB18030.
  EXPECT_THAT(why_not_utf8("\xCF\xF0\xE8\xE2\xE5\xF2, \xEC\xE8\xF0! \xCA\xE0\xEA \xE4\xE5\xEB\xE0?", "f"),
              HasSubstr("older encoding"));
  EXPECT_THAT(why_not_utf8("\xB6\xAB\xBE\xA9\xCA\xC7\xC8\xD5\xB1\xBE\xB5\xC4\xCA\xD7\xB6\xBC\xA1\xA3", "f"),
              HasSubstr("older encoding"));
  // Shift_JIS and EUC-JP of "Tokyo is the capital of Japan.", which are no UTF-16 either.
  EXPECT_THAT(
      why_not_utf8("\x93\x8C\x8B\x9E\x82\xCD\x93\xFA\x96\x7B\x82\xCC\x8E\xF1\x93\x73\x82\xC5\x82\xB7\x81\x42",
                   "f"),
      HasSubstr("older encoding"));
  EXPECT_THAT(
      why_not_utf8("\xC5\xEC\xB5\xFE\xA4\xCF\xC6\xFC\xCB\xDC\xA4\xCE\xBC\xF3\xC5\xD4\xA4\xC7\xA4\xB9\xA1\xA3",
                   "f"),
      HasSubstr("older encoding"));
  EXPECT_THAT(why_not_utf8("\x1B$BEl5~\x1B(B", "f"), HasSubstr("ISO-2022-JP"));
  EXPECT_EQ(why_not_utf8("\x10\0\0\0\0\0\0\0{\"a\":{}}"s + std::string(2000, ' '), "f"),
            "is a safetensors file");
  std::string noise;
  for (std::uint32_t state = 1; noise.size() < 5000;) {
    state = state * 1664525 + 1013904223;
    noise.push_back(static_cast<char>(state >> 24));
  }
  EXPECT_THAT(why_not_utf8(noise, "f"), HasSubstr("binary data"));
  EXPECT_THAT(why_not_utf8("a\0\0\0\0\0b\1\2\3\4"s, "f"), HasSubstr("binary data"));
  const std::string damaged = std::string(kMixed) + std::string(kMixed) + "\xC3 \xFF" + std::string(kMixed);
  EXPECT_THAT(why_not_utf8(damaged, "f"), AllOf(HasSubstr("damaged places"), HasSubstr("(line 3)"),
                                                HasSubstr("iconv -f UTF-8 -t UTF-8 -c f > f.utf8")));
  EXPECT_THAT(why_not_utf8("\x1F\x8B\x08\0\0\0\0\0\0\xFF"s, "f"), HasSubstr("gzip"));
}

TEST(TextEncoding, MarksAndCutCharactersAreNoText) {
  EXPECT_EQ(without_cut_ends("\xEF\xBB\xBFhello"), "hello");
  const std::string text = "é東😀é";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    // What head -c and tail -c leave is whole characters.
    const std::string_view head = without_cut_ends(std::string_view(text).substr(0, cut));
    const std::string_view tail = without_cut_ends(std::string_view(text).substr(cut));
    if (cut >= 2) {
      EXPECT_EQ(find_invalid_utf8(head), head.size()) << cut;
    }
    if (cut <= text.size() - 2) {
      EXPECT_EQ(find_invalid_utf8(tail), tail.size()) << cut;
    }
  }
  EXPECT_EQ(without_cut_ends("é caf\xC3"), "é caf");
  // Nothing shows that these are UTF-8: the last letter must not vanish.
  EXPECT_EQ(without_cut_ends("caf\xE9"), "caf\xE9");
  EXPECT_EQ(without_cut_ends("\xE9t\xE9"), "\xE9t\xE9");
}

}  // namespace
}  // namespace knapsaq
