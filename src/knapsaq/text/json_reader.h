#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace knapsaq {

/// Parses a JSON object in Python's dialect, like Transformers. Throws InputError that names `where`.
nlohmann::json parse_json_object(std::string_view text, const std::string& where);

/// A field's value; nullopt if it is absent or null. Throws InputError, naming `where` and the field, if it
/// has another type.
std::optional<std::string> optional_string(const nlohmann::json& object, const char* field,
                                           const std::string& where);
std::optional<bool> optional_bool(const nlohmann::json& object, const char* field, const std::string& where);
std::optional<std::int64_t> optional_integer(const nlohmann::json& object, const char* field,
                                             const std::string& where);

/// The same, but the field must be present.
std::string required_string(const nlohmann::json& object, const char* field, const std::string& where);
/// nullptr if the field is absent or null.
const nlohmann::json* optional_field(const nlohmann::json& object, const char* field);

}  // namespace knapsaq
