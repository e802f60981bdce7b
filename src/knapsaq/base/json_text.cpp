#include "knapsaq/base/json_text.h"

#include <algorithm>
#include <cstdint>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

/// config.json nests four deep, an index two; a text that goes on beyond this is an attack on the stack.
constexpr int kDeepest = 64;

}  // namespace

std::string json_reason(const std::exception& error) {
  std::string_view what = error.what();
  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the library's own tag.
  if (const std::size_t end = what.find("] "); what.starts_with("[json.") && end != what.npos)
    what.remove_prefix(end + 2);
  const std::string text = in_quotes(what);
  return text.substr(1, text.size() - 2);
}

bool is_utf8(std::string_view text) {
  try {
    // The library's serialiser is its validator.
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

nlohmann::json parse_json(std::string_view text) {
  const auto guard = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest) throw InputError(fmt::format("is nested deeper than {} levels", kDeepest));
    return true;
  };
  try {
    return nlohmann::json::parse(text, guard);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("is not valid JSON: " + json_reason(error));
  }
}

std::int64_t whole_number(const nlohmann::json& value, std::string_view name, std::int64_t smallest,
                          std::int64_t largest) {
  const auto fits = [&] {
    if (!value.is_number_integer()) return false;
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return false;
    const auto number = value.get<std::int64_t>();
    return smallest <= number && number <= largest;
  };
  if (!fits())
    throw InputError(fmt::format("{} is {}, not a whole number from {} to {}", name, in_quotes(value.dump()),
                                 smallest, largest));
  return value.get<std::int64_t>();
}

}  // namespace knapsaq
