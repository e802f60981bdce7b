#pragma once

#include <string>
#include <string_view>

/// What Python does to strings, whose rules the harness inherits. Texts are UTF-8.
namespace knapsaq {

/// str.strip() and str.rstrip(): without the characters that Python takes for white space.
std::string_view python_strip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

/// str.capitalize(): the first character as in a title, all others lower, by Unicode's one-to-one mappings.
/// (Python also knows those of one character to several, such as of "ß" to "Ss".)
std::string python_capitalize(std::string_view text);

/// str.replace(from, to), from left to right; `from` is not empty.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace knapsaq
