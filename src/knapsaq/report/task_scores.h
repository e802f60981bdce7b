#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/eval/tasks/task_result.h"

namespace knapsaq {

/// What the tasks found of one model, without the items.
struct TaskScores {
  struct Task {
    std::string name;
    std::uint64_t items = 0;
    Accuracy acc;
    std::optional<Accuracy> acc_norm;
    const Accuracy& counted() const { return acc_norm ? *acc_norm : acc; }
  };
  std::string model;        ///< name of its folder
  std::uint64_t bytes = 0;  ///< of its tensors
  double bits = 0;          ///< average per weight of its linears, metadata included
  std::string precision;    ///< of the forward pass
  std::string data;         ///< TaskSet::hash(): scores of others cannot be compared
  std::vector<Task> tasks;
  Accuracy average;
};

/// Keeps them in a run's folder, RUN/tasks/NAME-HASH.json, in the place of what was known of the same model
/// folder (`path`). Throws IoError.
void keep_task_scores(const TaskScores& scores, const std::filesystem::path& run,
                      const std::filesystem::path& path);

/// Throws InputError: only what is wrong.
TaskScores parse_task_scores(std::string_view text);

/// All that a run's folder keeps, smallest model first. Throws InputError naming the file.
std::vector<TaskScores> read_task_scores(const std::filesystem::path& run);

}  // namespace knapsaq
