#pragma once

#include <string>
#include <string_view>

/// Python's string functions, whose rules the harness inherits. Texts are UTF-8.
namespace knapsaq {

/// str.strip() and str.rstrip(): without the characters that Python counts as white space.
std::string_view python_strip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

/// str.capitalize(): the first character in title case, all others lower, by Unicode's one-to-one mappings.
/// (Python also has mappings of one character to several, such as "ß" to "Ss".)
std::string python_capitalize(std::string_view text);

/// str.replace(from, to), from left to right; `from` is not empty.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace knapsaq
