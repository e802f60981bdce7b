#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/eval/tasks/item.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {

/// What a model chose.
struct ItemResult {
  std::vector<double> log_likelihoods;  ///< of the answers, in nats
  std::size_t chosen = 0;               ///< the most likely answer; of equal ones the first
  std::size_t chosen_normalised = 0;    ///< the same, log-likelihoods divided by Answer::characters
  std::size_t gold = 0;
  std::size_t line = 0;
};

/// A share of items, and its standard error: the sample standard deviation of right and wrong over the root
/// of their number, as the harness has it; 0 for a single item.
struct Accuracy {
  double value = 0;
  double standard_error = 0;
};

struct TaskResult {
  std::string task;
  Accuracy acc;
  std::optional<Accuracy> acc_norm;  ///< where the harness tells it
  std::vector<ItemResult> items;     ///< in the order of the file
  /// What counts in an average: AMQ takes acc_norm of a task that has it, else acc.
  const Accuracy& counted() const { return acc_norm ? *acc_norm : acc; }
};

/// `scores` [item][answer] as score_items() gives them.
TaskResult judge(const Task& task, std::span<const TaskItem> items,
                 std::span<const std::vector<double>> scores);

/// AMQ's average: the mean of what counts of every task. Its error takes the tasks for independent.
Accuracy average(std::span<const TaskResult> results);

}  // namespace knapsaq
