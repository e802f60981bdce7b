#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// The text of a plain-text file, all of it, as it is: WikiText's raw files are already their lines joined.
/// Bytes that are not UTF-8 become U+FFFD, as Python's errors="replace" makes them. Throws InputError for an
/// empty file, IoError if it cannot be read.
std::string read_text_file(const std::filesystem::path& path);

/// The documents of a JSONL text: the string 'text' of the object on every line that is not blank, empty ones
/// included; of the first `limit` such lines, the rest is not looked at. Throws InputError, naming `where`
/// and the line, for a line that is something else.
std::vector<std::string> parse_documents(std::string_view text, const std::string& where,
                                         std::size_t limit = std::numeric_limits<std::size_t>::max());

}  // namespace knapsaq
