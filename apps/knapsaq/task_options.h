#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "arguments.h"
#include "knapsaq/eval/tasks/task_set.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq::command {

/// What verbs that judge by zero-shot tasks ask for.
struct TaskOptions {
  std::vector<std::string> names;
  std::string data;
  std::int64_t limit = 0;
};

/// Adds --tasks, --data and --limit.
void add_task_options(Verb verb, TaskOptions& options);
/// The tasks, read and tokenized; none if none is asked for. Throws UsageError for options that miss each
/// other, and as TaskSet::read(): everything that can be said before a model is loaded.
TaskSet read_tasks(const TaskOptions& options, const Tokenizer& tokenizer, const ModelConfig& config);
std::vector<TaskResult> judge(const TaskSet& tasks, Decoder& decoder);

/// `tasks`: list of name, items, acc, acc_stderr, acc_norm, acc_norm_stderr (null where the task has none);
/// `average`, `average_stderr`.
nlohmann::ordered_json json_of(std::span<const TaskResult> results);
void print(std::span<const TaskResult> results);
/// A line of JSON for every item.
void write_samples(std::span<const TaskResult> results, const std::filesystem::path& path);
/// Whether a file that begins like this is of write_samples().
bool are_samples(std::string_view beginning);

}  // namespace knapsaq::command
