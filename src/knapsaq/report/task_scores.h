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

/// The task scores of one model, without the items.
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
  std::string data;         ///< TaskSet::hash(): scores with another hash cannot be compared
  std::vector<Task> tasks;
  Accuracy average;
};

/// Writes them to a run's folder, RUN/tasks/NAME-HASH.json, and replaces earlier scores of the same model
/// folder (`path`). Throws IoError.
void keep_task_scores(const TaskScores& scores, const std::filesystem::path& run,
                      const std::filesystem::path& path);

/// Throws InputError that only says what is wrong.
TaskScores parse_task_scores(std::string_view text);

/// All scores in a run's folder, smallest model first. Throws InputError, naming the file.
std::vector<TaskScores> read_task_scores(const std::filesystem::path& run);

}  // namespace knapsaq
