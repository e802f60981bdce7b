#include "knapsaq/text/quote.h"

#include <fmt/format.h>

#include "knapsaq/text/utf8.h"

namespace knapsaq {

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::string shown = "'";
  std::size_t at = 0;
  while (at < text.size() && at < kShown) {
    const int step = utf8_step(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (step < 0 || byte < 0x20 || byte == 0x7F) {
      shown += fmt::format("\\x{:02x}", byte);
      ++at;
    } else {
      shown.append(text.substr(at, static_cast<std::size_t>(step)));
      at += static_cast<std::size_t>(step);
    }
  }
  return shown + (at < text.size() ? "...'" : "'");
}

}  // namespace knapsaq
