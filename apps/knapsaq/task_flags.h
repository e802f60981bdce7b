#pragma once

#include <nlohmann/json.hpp>

#include "arguments.h"
#include "knapsaq/pipeline/evaluate.h"

namespace knapsaq::command {

/// Adds --tasks, --data and --limit.
void add_task_flags(Verb verb, TaskOptions& options);

/// `tasks`: list of name, items, acc, acc_stderr, acc_norm, acc_norm_stderr (null where the task has none);
/// `average`, `average_stderr`.
nlohmann::ordered_json json_of(const EvaluateResult::Tasks& tasks);
void print(const EvaluateResult::Tasks& tasks);

}  // namespace knapsaq::command
