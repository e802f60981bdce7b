#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace knapsaq {

/// U+FFFD, the replacement of bytes that are not UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// Bytes of the well-formed UTF-8 sequence that starts at text[at] (1..4), or minus the number of bytes
/// (1..3) that one U+FFFD replaces: the longest prefix of a well-formed sequence, at least one byte
/// (Unicode 3.9, "maximal subpart", which Python's errors="replace" and Rust's from_utf8_lossy follow).
int utf8_step(std::string_view text, std::size_t at);

/// The code point of the sequence that starts at text[at], which must be well formed; `length` receives its
/// bytes.
char32_t utf8_decode(std::string_view text, std::size_t at, std::size_t& length);

/// Bytes of the sequence that `lead` starts, for well-formed text.
inline std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

void append_utf8(std::string& text, char32_t code_point);

/// The position of the first byte that is not UTF-8; text.size() if there is none.
std::size_t find_invalid_utf8(std::string_view text);

/// `text` with every maximal ill-formed part replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace knapsaq
