#include "knapsaq/eval/tasks/python_text.h"

#include <utf8proc.h>

#include "knapsaq/base/utf8.h"

namespace knapsaq {
namespace {

/// str.isspace() of one character: Unicode's white space and the four separators of ASCII.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    std::size_t last = text.size() - 1;
    while (last > 0 && text.size() - last < 4 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80)
      --last;
    std::size_t length = 0;
    if (utf8_step(text, last) <= 0 || !is_space(utf8_decode(text, last, length))) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::string_view python_strip(std::string_view text) {
  while (!text.empty() && utf8_step(text, 0) > 0) {
    std::size_t length = 0;
    if (!is_space(utf8_decode(text, 0, length))) break;
    text.remove_prefix(length);
  }
  return python_rstrip(text);
}

std::string python_capitalize(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = 1;
    if (utf8_step(text, at) > 0) {
      const auto c = static_cast<utf8proc_int32_t>(utf8_decode(text, at, length));
      append_utf8(result, static_cast<char32_t>(at == 0 ? utf8proc_totitle(c) : utf8proc_tolower(c)));
    } else {
      result += text[at];
    }
    at += length;
  }
  return result;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (;;) {
    const std::size_t found = text.find(from);
    result += text.substr(0, found);
    if (found == std::string_view::npos) return result;
    result += to;
    text.remove_prefix(found + from.size());
  }
}

}  // namespace knapsaq
