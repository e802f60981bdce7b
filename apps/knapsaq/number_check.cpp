#include "number_check.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <system_error>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "knapsaq/base/quote.h"

namespace knapsaq::command {
namespace {

/// The whole text as a number; nothing if it is something else, or out of the type's range.
template <class Number>
std::optional<Number> parse(const std::string& text) {
  Number number{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (begin == end || stop != end || error != std::errc()) return std::nullopt;
  return number;
}

template <class Test>
CLI::Validator number_check(std::string wanted, Test test) {
  return CLI::Validator(
      [wanted, test](std::string& text) {
        const std::optional<double> number = parse<double>(text);
        if (number && std::isfinite(*number) && test(*number)) return std::string();
        return fmt::format("{} is not {}", in_quotes(text), wanted);
      },
      "");
}

}  // namespace

CLI::Validator whole_number_check(std::int64_t least, std::int64_t most) {
  const std::string wanted = most == std::numeric_limits<std::int64_t>::max()
                                 ? fmt::format("a whole number from {} on", least)
                                 : fmt::format("a whole number from {} to {}", least, most);
  return CLI::Validator(
      [least, most, wanted](std::string& text) {
        const std::optional<std::int64_t> number = parse<std::int64_t>(text);
        if (number && *number >= least && *number <= most) return std::string();
        return fmt::format("{} is not {}", in_quotes(text), wanted);
      },
      "");
}

CLI::Validator positive_number_check() {
  return number_check("a number above 0", [](double number) { return number > 0; });
}

CLI::Validator fraction_check() {
  return number_check("a number from 0 to 1", [](double number) { return number >= 0 && number <= 1; });
}

}  // namespace knapsaq::command
