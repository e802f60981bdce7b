#pragma once

// What llama.cpp's template engine includes under this name: its values can be made from JSON. Knapsaq makes
// them itself (src/knapsaq/text/chat_template.cpp); this is here so that the engine's files compile
// unchanged.

#include <nlohmann/json.hpp>

using common_json = nlohmann::ordered_json;
