#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/base/quote.h"

namespace knapsaq {

/// Parses a JSON text from outside. Throws InputError, one line naming the place, if it is not JSON, or is
/// nested deeper than any of Knapsaq's files (code that walks a value may recurse).
nlohmann::json parse_json(std::string_view text);

/// A whole number from `smallest` to `largest`. Throws InputError, with its `name` and what it is, for other
/// numbers and for everything else, including 2.5 and true: nlohmann::json's own get() converts them
/// silently.
std::int64_t whole_number(const nlohmann::json& value, std::string_view name, std::int64_t smallest,
                          std::int64_t largest);

/// The same for Python's dialect of JSON: numbers may also be NaN, Infinity and -Infinity, as in
/// Transformers' config.json. They become numbers that are not finite.
nlohmann::json parse_python_json(std::string_view text);
/// The text of a value in that dialect, indented by `indent` blanks. (The library itself writes null for
/// numbers that are not finite.)
std::string python_json_text(const nlohmann::json& value, int indent);
std::string python_json_text(const nlohmann::ordered_json& value, int indent);

/// The message for a whole file that is not the JSON it should be, for `reason`: what it looks like if that
/// is something else (looks_like.h, text_encoding.h), otherwise the reason, and that it is damaged.
std::string why_no_json(std::string_view text, std::string_view reason);

/// The one-line reason inside an exception of nlohmann::json, cut to a readable length: it quotes the last
/// text, which in a hostile file can be megabytes.
std::string json_reason(const std::exception& error);

/// Whether names from other sources than JSON may be written to it.
bool is_utf8(std::string_view text);

}  // namespace knapsaq
