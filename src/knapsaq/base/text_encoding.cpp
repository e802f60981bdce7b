#include "knapsaq/base/text_encoding.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <fmt/format.h>

#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

using namespace std::string_view_literals;

/// Guesses look at the beginning: an encoding does not change within a file.
constexpr std::size_t kLookedAt = std::size_t{1} << 20;

bool is_high(char c) { return static_cast<unsigned char>(c) >= 0x80; }

/// The NULs of a text by their places modulo four.
std::array<std::size_t, 4> count_nuls(std::string_view text) {
  std::array<std::size_t, 4> nuls{};
  for (std::size_t at = text.find('\0'); at != std::string_view::npos; at = text.find('\0', at + 1))
    ++nuls[at % 4];
  return nuls;
}

/// The share of pairs of bytes that are characters of Chinese or Japanese, of their punctuation, or ASCII;
/// `high` says which byte of a pair is the more significant one. 0 where hardly any lies below U+8000, as all
/// pairs of Shift_JIS do. (Korean has blanks, whose zeros tell.)
double east_asian_share(std::string_view text, std::size_t high) {
  std::size_t fitting = 0;
  std::size_t low = 0;
  std::size_t zeros = 0;  // of the less significant bytes: most are zero if the order is the other one
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
    const auto byte = static_cast<unsigned char>(text[at + high]);
    low += byte == 0x30 || (byte >= 0x4E && byte < 0x80) ? 1 : 0;
    zeros += text[at + 1 - high] == '\0' ? 1 : 0;
    fitting += byte == 0 || byte == 0x30 || byte == 0xFF || (byte >= 0x4E && byte < 0xA0) ? 1 : 0;
  }
  const std::size_t pairs = text.size() / 2;
  // Enough to be no accident; half of ordinary text lies below U+8000.
  if (pairs < 8 || low * 4 < pairs || zeros * 4 > pairs) return 0;
  return static_cast<double>(fitting) / static_cast<double>(pairs);
}

/// Name for people and name for iconv.
struct Encoding {
  std::string_view name;
  std::string_view iconv;
};

/// UTF-16 or UTF-32, by its mark or by where its zeros are; empty names for something else.
Encoding wide_encoding(std::string_view text) {
  if (text.starts_with("\xFF\xFE\0\0"sv)) return {"UTF-32 (little-endian)", "UTF-32"};
  if (text.starts_with("\0\0\xFE\xFF"sv)) return {"UTF-32 (big-endian)", "UTF-32"};
  if (text.starts_with("\xFF\xFE"sv)) return {"UTF-16 (little-endian)", "UTF-16"};
  if (text.starts_with("\xFE\xFF"sv)) return {"UTF-16 (big-endian)", "UTF-16"};
  const auto [n0, n1, n2, n3] = count_nuls(text);
  // Of four bytes the most significant is always zero, the next one but for emoji.
  const std::size_t quads = text.size() / 4;
  const auto nearly_all = [&](std::size_t count) { return quads > 0 && count * 10 > quads * 9; };
  if (nearly_all(n3) && nearly_all(n2) && !nearly_all(n0)) return {"UTF-32 (little-endian)", "UTF-32LE"};
  if (nearly_all(n0) && nearly_all(n1) && !nearly_all(n3)) return {"UTF-32 (big-endian)", "UTF-32BE"};
  // The less significant bytes of Chinese and Japanese are spread over all values; U+4E00 has a zero there.
  constexpr double kNearlyAll = 0.97;
  const double little = east_asian_share(text, 1);
  const double big = east_asian_share(text, 0);
  if (std::max(little, big) >= kNearlyAll)
    return little > big ? Encoding{"UTF-16 (little-endian)", "UTF-16LE"}
                        : Encoding{"UTF-16 (big-endian)", "UTF-16BE"};
  const std::size_t even = n0 + n2;
  const std::size_t odd = n1 + n3;
  // ASCII characters, line ends at least, have a zero byte; hardly anything else of a text does.
  if (odd >= 2 && odd > 10 * even) return {"UTF-16 (little-endian)", "UTF-16LE"};
  if (even >= 2 && even > 10 * odd) return {"UTF-16 (big-endian)", "UTF-16BE"};
  return {};
}

std::string conversion(std::string_view from, const std::string& file, std::string_view flags = "") {
  return file.empty() ? fmt::format("iconv -f {} -t UTF-8{}", from, flags)
                      : fmt::format("iconv -f {} -t UTF-8{} {} > {}", from, flags, in_shell(file),
                                    in_shell(file + ".utf8"));
}

/// What a text is made of that is not UTF-8.
struct Census {
  std::size_t invalid = 0;    ///< maximal ill-formed parts
  std::size_t multibyte = 0;  ///< well-formed characters beyond ASCII
  std::size_t controls = 0;   ///< that no text has
  std::size_t high = 0;       ///< bytes beyond ASCII
  std::size_t runs = 0;       ///< stretches of these
  bool c1 = false;            ///< has bytes 0x80..0x9F, which ISO 8859 has no letters for
};

Census count(std::string_view text) {
  Census census;
  for (std::size_t at = 0; at < text.size();) {
    const int step = utf8_step(text, at);
    census.invalid += step < 0 ? 1 : 0;
    census.multibyte += step > 1 ? 1 : 0;
    at += static_cast<std::size_t>(step < 0 ? -step : step);
  }
  bool was_high = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    constexpr std::string_view kOfTexts = "\t\n\v\f\r\b\x1A\x1B";
    census.controls += (byte < 0x20 && kOfTexts.find(c) == std::string_view::npos) || byte == 0x7F ? 1 : 0;
    census.high += is_high(c) ? 1 : 0;
    census.runs += is_high(c) && !was_high ? 1 : 0;
    census.c1 = census.c1 || (byte >= 0x80 && byte < 0xA0);
    was_high = is_high(c);
  }
  return census;
}

}  // namespace

std::string why_not_utf8(std::string_view text, const std::string& file) {
  const std::size_t bad = find_invalid_utf8(text);
  const auto nuls = static_cast<std::size_t>(std::ranges::count(text, '\0'));
  const bool many_nuls = nuls > 1 && nuls > text.size() / 64;
  if (bad == text.size() && !many_nuls) {
    // Bytes below 128 alone: a file of another kind whose beginning is text, or text that shifts alphabets.
    if (nuls > 0) return looks_like(text);
    if (text.find("\x1B$B") != std::string_view::npos || text.find("\x1B$@") != std::string_view::npos)
      return fmt::format("is not UTF-8: it looks like ISO-2022-JP; convert it: {}",
                         conversion("ISO-2022-JP", file));
    return "";
  }

  if (std::string look = looks_like(text); !look.empty()) return look;
  const std::string_view sample = text.substr(0, kLookedAt);
  if (const Encoding wide = wide_encoding(sample); !wide.name.empty())
    return fmt::format("is not UTF-8: it looks like {}; convert it: {}", wide.name,
                       conversion(wide.iconv, file));
  const Census census = count(sample);
  // Two in a hundred: more than stray ones in an old text file.
  if (many_nuls || census.controls * 50 > sample.size())
    return "is not text: it looks like binary data; give a file of plain text in UTF-8";
  if (census.multibyte > 4 * census.invalid || census.invalid == 0)
    return fmt::format(
        "is UTF-8 but for damaged places, the first of them at byte {} (line {}); leave them out: {}", bad,
        1 + std::ranges::count(text.substr(0, bad), '\n'), conversion("UTF-8", file, " -c"));
  // Letters beyond ASCII stand alone in the languages of Western Europe, and together in all others.
  if (census.high > 2 * census.runs)
    return fmt::format(
        "is not UTF-8: it looks like text in an older encoding (Windows-1251, GB18030, Shift_JIS, EUC-KR or "
        "another); convert it from the one that it is in: {}",
        conversion("WINDOWS-1251", file));
  return fmt::format("is not UTF-8: it looks like {}, or another older encoding; convert it: {}",
                     census.c1 ? "Windows-1252" : "Latin-1 (ISO 8859-1)",
                     conversion(census.c1 ? "WINDOWS-1252" : "ISO-8859-1", file));
}

std::string_view without_cut_ends(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string_view whole = text;
  constexpr std::size_t kMostLeft = 3;  // bytes of a character without its first or its last one
  for (std::size_t cut = 0; cut < kMostLeft && !whole.empty(); ++cut) {
    const auto byte = static_cast<unsigned char>(whole[0]);
    if (byte < 0x80 || byte >= 0xC0) break;
    whole.remove_prefix(1);
  }
  const std::size_t bad = find_invalid_utf8(whole);
  if (bad != whole.size()) {
    // One ill-formed part, the last: a lead with what follows it.
    if (static_cast<std::size_t>(-utf8_step(whole, bad)) != whole.size() - bad ||
        static_cast<unsigned char>(whole[bad]) < 0xC2)
      return text;
    whole = whole.substr(0, bad);
  }
  return std::ranges::any_of(whole, is_high) ? whole : text;
}

}  // namespace knapsaq
