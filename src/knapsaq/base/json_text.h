#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/base/quote.h"

namespace knapsaq {

/// Parses a JSON text that came from outside. Throws InputError, one line naming the place, when it is not
/// JSON, or nested deeper than any of our files are (code that walks a value may recurse).
nlohmann::json parse_json(std::string_view text);

/// A whole number from `smallest` to `largest`. Throws InputError, with its `name` and what it is, for
/// another one and for everything else, 2.5 and true among it: nlohmann::json's own get() converts them
/// without a word.
std::int64_t whole_number(const nlohmann::json& value, std::string_view name, std::int64_t smallest,
                          std::int64_t largest);

/// The same for what Python writes as JSON: numbers may also be NaN, Infinity and -Infinity, as Transformers
/// has them in config.json. They become numbers that are not finite.
nlohmann::json parse_python_json(std::string_view text);
/// The text of a value in that dialect, indented by `indent` blanks. (The library alone writes null for
/// numbers that are not finite.)
std::string python_json_text(const nlohmann::json& value, int indent);
std::string python_json_text(const nlohmann::ordered_json& value, int indent);

/// What to say of a whole file that is not the JSON it should be, for `reason`: what it looks like if that is
/// something else (looks_like.h, text_encoding.h), otherwise the reason, and that it is damaged.
std::string why_no_json(std::string_view text, std::string_view reason);

/// The one-line reason inside an exception of nlohmann::json, cut to a readable length: it quotes the text
/// that was read last, which in a hostile file can be megabytes.
std::string json_reason(const std::exception& error);

/// Whether names that did not come out of JSON may go into it.
bool is_utf8(std::string_view text);

}  // namespace knapsaq
