#pragma once

// Parts of results that several verbs print.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/pipeline/evaluate.h"
#include "knapsaq/pipeline/memory_use.h"
#include "knapsaq/pipeline/written_model.h"

namespace knapsaq::command {

/// [{"linear": "model.layers.0.self_attn.q_proj", "scheme": "hqq:b3g64/m8g128"}, ..]
nlohmann::ordered_json allocation_json(const std::vector<NamedScheme>& allocation);
/// "b2 x 12, b3 x 20, b4 x 10": how many matrices have which scheme.
std::string in_words(const std::vector<SchemeCount>& counts);

/// What pick and fit print of the model that they wrote.
nlohmann::ordered_json json_of(const WrittenModel& model);
void print_summary(const WrittenModel& model, const std::string& output);

/// Null without a value; "work_space" may be null.
nlohmann::ordered_json memory_json(const std::optional<MemoryUse>& memory);
/// "in memory: 2.20 GiB of weights, 4.00 GiB of keys and values of 32768 tokens (fp16), 0.30 GiB of work
/// space; together 6.50 GiB"
std::string describe(const MemoryUse& memory);

/// {"mean": .., "standard_error": .., "median": .., "quantile_99": .., "quantile_99_9": .., "largest": ..}
nlohmann::ordered_json json_of(const KlStatistics& kl);

/// "linears 1.20 GiB, head 60.00 MiB, embedding 60.00 MiB, work space 12.00 MiB"
std::string describe(const ModelMemory& memory);
/// Adds linear_bytes, head_bytes, embedding_bytes and workspace_bytes.
void add_memory(nlohmann::ordered_json& json, const ModelMemory& memory);

}  // namespace knapsaq::command
