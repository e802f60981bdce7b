#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// Why bytes are not UTF-8 text, for messages: a clause without a subject that says what they look like
/// (UTF-16, UTF-32, Windows-1252, a compressed file, binary data, damaged UTF-8, ...) and how to convert
/// them. Empty if they are UTF-8 text or empty. `file` is the name in the suggested command; empty if there
/// is no file.
///
/// NUL is a character of UTF-8, but no text has many: more than one byte in 64 means binary data, or UTF-16
/// or UTF-32 with ASCII characters only.
std::string why_not_utf8(std::string_view text, const std::string& file);

/// `text` without a UTF-8 byte order mark and without a partial character at either end, as head -c and tail
/// -c leave it; but unchanged if no other character shows that the text is UTF-8 at all.
std::string_view without_cut_ends(std::string_view text);

}  // namespace knapsaq
