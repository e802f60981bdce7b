#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace knapsaq {

/// Zero-shot tasks to judge a model by.
struct TaskOptions {
  std::vector<std::string> names;  ///< "arc_easy", "piqa", ..; "all"; none: no tasks
  std::string data;                ///< folder with a NAME.jsonl for every task
  std::int64_t limit = 0;          ///< the first so many items of every task; 0: all
};

/// Share of items that were answered right.
struct TaskAccuracy {
  double value = 0;
  double standard_error = 0;
};
struct TaskScore {
  std::string task;
  std::int64_t items = 0;
  TaskAccuracy acc;       ///< by likelihood
  bool has_norm = false;  ///< the task has acc_norm, too
  TaskAccuracy acc_norm;  ///< by likelihood per character
};

}  // namespace knapsaq
