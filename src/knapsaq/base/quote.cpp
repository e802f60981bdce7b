#include "knapsaq/base/quote.h"

#include <algorithm>

#include <fmt/format.h>

#include "knapsaq/base/utf8.h"

namespace knapsaq {
std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 160;  // enough for a module path, and for a JSON parser's complaint
  std::string shown = "'";
  std::size_t at = 0;
  while (at < text.size() && at < kShown) {
    const int length = utf8_step(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (length < 0 || byte < 0x20 || byte == 0x7F) {
      shown += fmt::format("\\x{:02x}", byte);
      ++at;
    } else {
      shown.append(text.substr(at, static_cast<std::size_t>(length)));
      at += static_cast<std::size_t>(length);
    }
  }
  return shown + (at < text.size() ? "...'" : "'");
}

std::string in_shell(const std::string& text) {
  const bool plain = !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("_-./+,:@%=").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return text;
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'')
      result += "'\\''";
    else
      result += c;
  }
  return result + "'";
}

}  // namespace knapsaq
