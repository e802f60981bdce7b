#include "knapsaq/text/json_reader.h"

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

[[noreturn]] void wrong_type(const char* field, const char* wanted, const std::string& where) {
  throw InputError(fmt::format("{}: '{}' is not {}; the file is damaged", where, field, wanted));
}

}  // namespace

nlohmann::json parse_json_object(std::string_view text, const std::string& where) {
  nlohmann::json json;
  try {
    json = parse_python_json(text);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", where, why_no_json(text, error.what())));
  }
  if (!json.is_object()) throw InputError(fmt::format("{}: not a JSON object; the file is damaged", where));
  return json;
}

const nlohmann::json* optional_field(const nlohmann::json& object, const char* field) {
  const auto found = object.find(field);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> optional_string(const nlohmann::json& object, const char* field,
                                           const std::string& where) {
  const nlohmann::json* value = optional_field(object, field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong_type(field, "a string", where);
  return value->get<std::string>();
}

std::optional<bool> optional_bool(const nlohmann::json& object, const char* field, const std::string& where) {
  const nlohmann::json* value = optional_field(object, field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong_type(field, "true or false", where);
  return value->get<bool>();
}

std::optional<std::int64_t> optional_integer(const nlohmann::json& object, const char* field,
                                             const std::string& where) {
  const nlohmann::json* value = optional_field(object, field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX)) {
    wrong_type(field, "an integer", where);
  }
  return value->get<std::int64_t>();
}

std::string required_string(const nlohmann::json& object, const char* field, const std::string& where) {
  auto value = optional_string(object, field, where);
  if (!value) throw InputError(fmt::format("{}: '{}' is missing; the file is damaged", where, field));
  return std::move(*value);
}

}  // namespace knapsaq
