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

/// The one-line reason inside an exception of nlohmann::json, cut to a readable length: it quotes the text
/// that was read last, which in a hostile file can be megabytes.
std::string json_reason(const std::exception& error);

/// Whether names that did not come out of JSON may go into it.
bool is_utf8(std::string_view text);

}  // namespace knapsaq
