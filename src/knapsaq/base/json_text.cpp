#include "knapsaq/base/json_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/text_encoding.h"
#include "knapsaq/base/utf8.h"

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

std::string why_no_json(std::string_view text, std::string_view reason) {
  if (std::string look = looks_like(text); !look.empty()) return look;
  // JSON in UTF-16 is what some editors and shells save.
  if (std::string other = why_not_utf8(text, ""); !other.empty()) return other;
  return fmt::format("{}; the file is damaged: download it again", reason);
}

bool is_utf8(std::string_view text) { return find_invalid_utf8(text) == text.size(); }

namespace {

/// A number that JSON has no literal for, with its place among the values that are no strings.
struct Special {
  std::size_t place = 0;
  double value = 0;
};

/// `text` with zeros for Python's three literals, and where these stood. What lies between the structural
/// characters, outside strings, is one value each in valid JSON; where the text is not valid, the parser says
/// so afterwards.
std::string without_specials(std::string_view text, std::vector<Special>& specials) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr std::string_view kBetween = " \t\r\n{}[],:\"";
  std::string plain(text);
  std::size_t place = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      for (++at; at < text.size() && text[at] != '"'; ++at)
        if (text[at] == '\\') ++at;
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    if (end == at) {
      ++at;
      continue;
    }
    const std::string_view token = text.substr(at, end - at);
    std::optional<double> value;
    if (token == "NaN") value = std::numeric_limits<double>::quiet_NaN();
    if (token == "Infinity") value = kInfinity;
    if (token == "-Infinity") value = -kInfinity;
    if (value) {
      specials.push_back({place, *value});
      // As long as before, so that the parser's complaints name the right places.
      plain.replace(at, token.size(), token.size(), ' ');
      plain[at] = '0';
    }
    ++place;
    at = end;
  }
  return plain;
}

using Callback = nlohmann::json::parser_callback_t;

nlohmann::json parse_guarded(std::string_view text, const Callback& each) {
  const auto guard = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (depth > kDeepest) throw InputError(fmt::format("is nested deeper than {} levels", kDeepest));
    return each ? each(depth, event, value) : true;
  };
  try {
    return nlohmann::json::parse(text, guard);
  } catch (const nlohmann::json::exception& error) {
    throw InputError("is not valid JSON: " + json_reason(error));
  }
}

/// Puts texts that begin with `mark` where numbers are not finite.
template <class Json>
void mark_specials(Json& value, const std::string& mark) {
  if (value.is_structured()) {
    for (Json& part : value) mark_specials(part, mark);
  } else if (value.is_number_float() && !std::isfinite(value.template get<double>())) {
    const double number = value.template get<double>();
    value = mark + (std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
  }
}

template <class Json>
bool has_specials(const Json& value) {
  if (value.is_structured()) return std::ranges::any_of(value, has_specials<Json>);
  return value.is_number_float() && !std::isfinite(value.template get<double>());
}

template <class Json>
std::string text_of(const Json& value, int indent) {
  std::string text = value.dump(indent);
  if (!has_specials(value)) return text;
  std::string mark = "special";
  while (text.find(mark) != std::string::npos) mark += '-';
  Json marked = value;
  mark_specials(marked, mark);
  text = marked.dump(indent);
  // "mark..." becomes ...
  const std::string begin = '"' + mark;
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
    text.erase(at, begin.size());
    text.erase(text.find('"', at), 1);
  }
  return text;
}

}  // namespace

nlohmann::json parse_json(std::string_view text) { return parse_guarded(text, nullptr); }

nlohmann::json parse_python_json(std::string_view text) {
  std::vector<Special> specials;
  const std::string plain = without_specials(text, specials);
  if (specials.empty()) return parse_guarded(text, nullptr);
  std::size_t place = 0;
  auto next = specials.begin();
  return parse_guarded(plain, [&](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (event != nlohmann::json::parse_event_t::value || value.is_string()) return true;
    if (next != specials.end() && next->place == place) value = (next++)->value;
    ++place;
    return true;
  });
}

std::string python_json_text(const nlohmann::json& value, int indent) { return text_of(value, indent); }
std::string python_json_text(const nlohmann::ordered_json& value, int indent) {
  return text_of(value, indent);
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
