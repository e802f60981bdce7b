#include "knapsaq/search/strategy.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

/// All of the text as a number; nullopt if it is not one.
template <class Number>
std::optional<Number> parse(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

OptionValues::OptionValues(std::span<const StrategyOption> options)
    : options_(options.begin(), options.end()) {}

void OptionValues::set(std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos)
    throw UsageError(fmt::format("option {}: write it as name=value", in_quotes(assignment)));
  const std::string_view name = assignment.substr(0, equals);
  const std::string_view value = assignment.substr(equals + 1);
  // to_string() separates options by spaces.
  if (value.empty() || value.find_first_of(" \t\r\n") != std::string_view::npos)
    throw UsageError(fmt::format("option {}: needs a value without spaces", in_quotes(assignment)));
  std::string known;
  for (StrategyOption& option : options_) {
    if (option.name == name) {
      option.value = value;
      return;
    }
    known += (known.empty() ? "" : ", ") + option.name;
  }
  throw UsageError(fmt::format("there is no option {}; {}", in_quotes(name),
                               known.empty() ? "this strategy has none" : "the options are " + known));
}

const std::string& OptionValues::text(std::string_view name) const {
  for (const StrategyOption& option : options_)
    if (option.name == name) return option.value;
  throw UsageError(fmt::format("there is no option {}", in_quotes(name)));
}

double OptionValues::number(std::string_view name) const {
  const std::string& value = text(name);
  const std::optional<double> number = parse<double>(value);
  if (!number || !std::isfinite(*number))
    throw UsageError(fmt::format("option {}: {} is not a number", name, in_quotes(value)));
  return *number;
}

std::int64_t OptionValues::integer(std::string_view name, std::int64_t least) const {
  const std::string& value = text(name);
  const std::optional<std::int64_t> number = parse<std::int64_t>(value);
  if (!number || *number < least)
    throw UsageError(
        fmt::format("option {}: {} is not a whole number of at least {}", name, in_quotes(value), least));
  return *number;
}

bool OptionValues::flag(std::string_view name) const {
  const std::string& value = text(name);
  if (value != "0" && value != "1")
    throw UsageError(fmt::format("option {}: {} is neither 0 nor 1", name, in_quotes(value)));
  return value == "1";
}

std::string OptionValues::to_string() const {
  std::string result;
  for (const StrategyOption& option : options_)
    result += fmt::format("{}{}={}", result.empty() ? "" : " ", option.name, option.value);
  return result;
}

}  // namespace knapsaq
