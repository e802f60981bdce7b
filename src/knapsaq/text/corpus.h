#pragma once

#include <filesystem>
#include <string>

namespace knapsaq {

/// The text of a plain-text file, all of it, as it is: WikiText's raw files are already their lines joined.
/// Bytes that are not UTF-8 become U+FFFD, as Python's errors="replace" makes them. Throws InputError for an
/// empty file, IoError if it cannot be read.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace knapsaq
