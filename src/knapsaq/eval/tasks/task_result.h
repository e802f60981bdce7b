#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/eval/tasks/item.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {

/// A model's choice.
struct ItemResult {
  std::vector<double> log_likelihoods;  ///< of the answers, in nats
  std::size_t chosen = 0;               ///< the most likely answer; of equal ones the first
  std::size_t chosen_normalised = 0;    ///< the same, log-likelihoods divided by Answer::characters
  std::size_t gold = 0;
  std::size_t line = 0;
};

/// A share of items, and its standard error as in the harness: the sample standard deviation of right and
/// wrong over the square root of their number; 0 for a single item.
struct Accuracy {
  double value = 0;
  double standard_error = 0;
};

struct TaskResult {
  std::string task;
  Accuracy acc;
  std::optional<Accuracy> acc_norm;  ///< if the harness reports it
  std::vector<ItemResult> items;     ///< in the order of the file
  /// The value that enters an average: AMQ uses acc_norm if the task has it, else acc.
  const Accuracy& counted() const { return acc_norm ? *acc_norm : acc; }
};

/// `scores` [item][answer] as returned by score_items().
TaskResult judge(const Task& task, std::span<const TaskItem> items,
                 std::span<const std::vector<double>> scores);

/// AMQ's average: the mean over the tasks of these values. Its error assumes that the tasks are independent.
Accuracy average(std::span<const TaskResult> results);

}  // namespace knapsaq
