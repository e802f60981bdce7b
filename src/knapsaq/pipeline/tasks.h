#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/eval/tasks/task_set.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/pipeline/task_options.h"

namespace knapsaq {

/// The tasks, read and tokenized; none if none is asked for. Throws UsageError for options that miss each
/// other, and as TaskSet::read(): everything that can be said before a model is loaded.
TaskSet read_tasks(Session& session, const TaskOptions& options);
std::vector<TaskResult> judge(const TaskSet& tasks, Decoder& decoder, Progress& progress);
std::vector<TaskScore> scores_of(std::span<const TaskResult> results);

/// A line of JSON for every item.
void write_items(std::span<const TaskResult> results, const std::filesystem::path& path);
/// Whether a file that begins like this is of write_items().
bool are_items(std::string_view beginning);

}  // namespace knapsaq
