#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Interprets bytes as UTF-8 text. A byte order mark and partial characters at the ends are removed
/// (base/text_encoding.h). Throws InputError, which names `where` and says what the bytes look like and how
/// to convert them, for other encodings, binary or compressed data, and failed downloads (base/looks_like.h).
/// `file` is the name in the suggested conversion command; empty if there is no file.
std::string to_text(std::string bytes, const std::string& where, const std::string& file);

/// The text of a file of at most `limit` bytes, as to_text(). Throws IoError if the file cannot be read.
std::string read_utf8_file(const std::filesystem::path& path, std::uint64_t limit);

/// The whole text of a plain-text file, unchanged: WikiText's raw files already have their lines joined. An
/// HTML or XML page counts as text only if the file's name says so (.html, .htm, .xml). Also throws
/// InputError for an empty file, and for JSON that is not meant as text: a whole document in a .json file,
/// and documents line by line in a file that is named neither .jsonl nor .txt.
std::string read_text_file(const std::filesystem::path& path);

/// The documents of a JSONL text: the string 'text' of the object on every line that is not blank, empty
/// strings included. Reads the first `limit` such lines and ignores the rest. Throws InputError, naming
/// `where` and the line, for any other line.
std::vector<std::string> parse_documents(std::string_view text, const std::string& where,
                                         std::size_t limit = std::numeric_limits<std::size_t>::max());

}  // namespace knapsaq
