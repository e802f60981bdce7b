#include "memory_json.h"

#include <fmt/core.h>

#include "knapsaq/base/units.h"

namespace knapsaq::command {

std::string describe(const DecoderMemory& memory) {
  return fmt::format("linears {}, head {}, embedding {}, work space {}", format_bytes(memory.weights),
                     format_bytes(memory.head), format_bytes(memory.embedding), format_bytes(memory.work));
}

void add_memory(nlohmann::ordered_json& json, const DecoderMemory& memory) {
  json["linear_bytes"] = memory.weights;
  json["head_bytes"] = memory.head;
  json["embedding_bytes"] = memory.embedding;
  json["workspace_bytes"] = memory.work;
}

}  // namespace knapsaq::command
