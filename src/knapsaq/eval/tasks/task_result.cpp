#include "knapsaq/eval/tasks/task_result.h"

#include <cmath>

namespace knapsaq {
namespace {

/// Index of the largest; equal to NumPy's argmax except for NaN, which does not occur here.
std::size_t largest(std::span<const double> values) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < values.size(); ++i)
    if (values[i] > values[best]) best = i;
  return best;
}

Accuracy accuracy(std::size_t right, std::size_t count) {
  const auto n = static_cast<double>(count);
  Accuracy result{.value = static_cast<double>(right) / n, .standard_error = 0};
  if (count > 1) result.standard_error = std::sqrt(result.value * (1 - result.value) / (n - 1));
  return result;
}

}  // namespace

TaskResult judge(const Task& task, std::span<const TaskItem> items,
                 std::span<const std::vector<double>> scores) {
  TaskResult result;
  result.task = task.name;
  std::size_t right = 0;
  std::size_t right_normalised = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::vector<double> normalised = scores[i];
    for (std::size_t a = 0; a < normalised.size(); ++a)
      normalised[a] /=
          static_cast<double>(items[i].answers[a].characters);  // nothing to divide by: -infinity
    ItemResult item{.log_likelihoods = scores[i],
                    .chosen = largest(scores[i]),
                    .chosen_normalised = largest(normalised),
                    .gold = static_cast<std::size_t>(items[i].gold.value()),
                    .line = items[i].line};
    right += item.chosen == item.gold ? 1 : 0;
    right_normalised += item.chosen_normalised == item.gold ? 1 : 0;
    result.items.push_back(std::move(item));
  }
  result.acc = accuracy(right, items.size());
  if (task.normalises) result.acc_norm = accuracy(right_normalised, items.size());
  return result;
}

Accuracy average(std::span<const TaskResult> results) {
  Accuracy mean;
  double squares = 0;
  for (const TaskResult& result : results) {
    mean.value += result.counted().value;
    squares += result.counted().standard_error * result.counted().standard_error;
  }
  mean.value /= static_cast<double>(results.size());
  mean.standard_error = std::sqrt(squares) / static_cast<double>(results.size());
  return mean;
}

}  // namespace knapsaq
