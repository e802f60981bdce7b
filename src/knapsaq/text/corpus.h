#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Takes bytes for a text in UTF-8 that somebody wrote: without a byte order mark, and without what is left
/// of a character that was cut at one of the ends (base/text_encoding.h). Throws InputError, which names
/// `where`, says what they look like and how to convert them, for bytes that are another encoding, binary
/// data, compressed, or what a failed download leaves (base/looks_like.h). `file` is the name that the
/// command for converting shows; empty where there is no file.
std::string to_text(std::string bytes, const std::string& where, const std::string& file);

/// The text of a file, of at most `limit` bytes; as to_text(). Throws IoError if it cannot be read.
std::string read_utf8_file(const std::filesystem::path& path, std::uint64_t limit);

/// The text of a plain-text file, all of it, as it is: WikiText's raw files are already their lines joined.
/// An HTML or XML page is taken for a text only where the file's name says that it is one (.html, .htm,
/// .xml). Throws InputError also for an empty file, and for JSON that is not meant as text: a whole document
/// in a .json file, and documents line by line in a file that is named neither
/// .jsonl nor .txt.
std::string read_text_file(const std::filesystem::path& path);

/// The documents of a JSONL text: the string 'text' of the object on every line that is not blank, empty ones
/// included; of the first `limit` such lines, the rest is not looked at. Throws InputError, naming `where`
/// and the line, for a line that is something else.
std::vector<std::string> parse_documents(std::string_view text, const std::string& where,
                                         std::size_t limit = std::numeric_limits<std::size_t>::max());

}  // namespace knapsaq
