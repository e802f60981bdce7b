#include "knapsaq/family/fields.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {

using nlohmann::json;

void fail_config(const std::string& reason) { throw InputError("config.json: " + reason); }

namespace {

std::string shown(const json& value) { return in_quotes(python_json_text(value, -1)); }

}  // namespace

const json& Fields::get(const char* name) const {
  if (!has(name)) fail_config(fmt::format("the field {} is missing", name));
  return object_[name];
}

std::int64_t Fields::size(const char* name, std::int64_t largest, std::int64_t smallest) const {
  const json& value = get(name);
  if (!value.is_number_integer() || value < smallest || value > largest)
    fail_config(
        fmt::format("{} is {}, not a whole number from {} to {}", name, shown(value), smallest, largest));
  return value.get<std::int64_t>();
}

bool Fields::flag_or(const char* name, bool fallback) const {
  if (!has(name)) return fallback;
  if (!get(name).is_boolean())
    fail_config(fmt::format("{} is {}, not true or false", name, shown(get(name))));
  return get(name).get<bool>();
}

std::vector<float> Fields::positives(const char* name, std::int64_t count) const {
  const json& list = get(name);
  if (!list.is_array() || std::ssize(list) != count)
    fail_config(fmt::format("{} is not a list of {} numbers", name, count));
  std::vector<float> values;
  for (const json& value : list) values.push_back(positive(name, value));
  return values;
}

std::string Fields::text_or(const char* name, std::string_view fallback) const {
  if (!has(name)) return std::string(fallback);
  if (!get(name).is_string()) fail_config(fmt::format("{} is {}, not a text", name, shown(get(name))));
  return get(name).get<std::string>();
}

std::vector<std::string> Fields::texts(const char* name, std::int64_t count,
                                       const std::vector<std::string_view>& allowed) const {
  const json& list = get(name);
  if (!list.is_array() || std::ssize(list) != count)
    fail_config(fmt::format("{} does not name a type for every layer", name));
  std::vector<std::string> texts;
  for (const json& value : list) {
    if (!value.is_string() ||
        std::ranges::find(allowed, value.get_ref<const std::string&>()) == allowed.end())
      fail_config(fmt::format("{}: {} is not supported; supported are {}", name, shown(value),
                              fmt::join(allowed, ", ")));
    texts.push_back(value.get<std::string>());
  }
  return texts;
}

float Fields::positive(const char* name, const json& value) {
  const double number = value.is_number() ? value.get<double>() : 0.0;
  if (!(number >= std::numeric_limits<float>::min() && number <= std::numeric_limits<float>::max()))
    fail_config(fmt::format("{} is {}, not a positive number", name, shown(value)));
  return static_cast<float>(number);
}

}  // namespace knapsaq
