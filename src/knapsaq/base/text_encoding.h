#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// Why bytes are no text in UTF-8, for messages: a clause without a subject that says what they look like
/// (UTF-16, UTF-32, Windows-1252, a compressed file, binary data, damaged UTF-8, ...) and how to convert
/// them. Empty if they are such a text, or empty themselves. `file` is the name that the command in the
/// clause shows; empty where there is no file.
///
/// A NUL is a character of UTF-8, but no text has many: more than one byte in 64 makes it binary data, or
/// UTF-16 or UTF-32 of which all characters are ASCII.
std::string why_not_utf8(std::string_view text, const std::string& file);

/// `text` without a byte order mark of UTF-8 in front, and without what is left of a character that was cut
/// at one of its ends, as head -c and tail -c do it; but not where no other character shows that the text is
/// UTF-8 at all.
std::string_view without_cut_ends(std::string_view text);

}  // namespace knapsaq
