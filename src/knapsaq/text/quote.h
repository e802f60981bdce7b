#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// `text` between single quotes for a one-line message: control characters and bytes that are not UTF-8
/// escaped, cut after 60 bytes.
std::string in_quotes(std::string_view text);

}  // namespace knapsaq
