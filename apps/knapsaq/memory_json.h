#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "knapsaq/model/decoder.h"

namespace knapsaq::command {

/// "linears 1.20 GiB, head 60.00 MiB, embedding 60.00 MiB, work space 12.00 MiB"
std::string describe(const DecoderMemory& memory);
/// Adds linear_bytes, head_bytes, embedding_bytes and workspace_bytes.
void add_memory(nlohmann::ordered_json& json, const DecoderMemory& memory);

}  // namespace knapsaq::command
