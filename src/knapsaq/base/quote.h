#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// Text from a file in single quotes for a one-line message: control characters and bytes that are not UTF-8
/// are escaped, and text longer than 160 bytes is cut, not in the middle of a character.
std::string in_quotes(std::string_view text);

/// A path in shell quoting, for commands that people copy.
std::string in_shell(const std::string& text);

}  // namespace knapsaq
