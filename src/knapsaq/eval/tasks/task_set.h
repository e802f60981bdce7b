#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/eval/tasks/encode_items.h"
#include "knapsaq/eval/tasks/score_items.h"
#include "knapsaq/eval/tasks/task_result.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// Tasks, read and tokenized, for evaluating any number of models with one tokenizer.
class TaskSet {
 public:
  /// Reads FOLDER/NAME.jsonl of every task, `limit` items of each (0: all); `positions` is the model's.
  /// Throws like read_items() and encode_items().
  static TaskSet read(std::span<const Task* const> tasks, const std::filesystem::path& folder,
                      const Tokenizer& tokenizer, std::int64_t positions, std::int64_t limit,
                      Progress& progress = Progress::none());

  /// `batch_rows`: tokens that `losses` likes to get at once (Decoder::windows_per_batch(1)).
  std::vector<TaskResult> judge(const SegmentLossFunction& losses, std::int64_t batch_rows,
                                Progress& progress = Progress::none()) const;

  bool empty() const { return parts_.empty(); }
  std::vector<std::string> names() const;
  std::int64_t items() const;  ///< of all tasks
  /// Identifies the scored tokens, in 16 hexadecimal digits.
  const std::string& hash() const { return hash_; }

 private:
  struct Part {
    const Task* task = nullptr;
    std::vector<TaskItem> items;
    std::vector<EncodedItem> encoded;
  };
  std::vector<Part> parts_;
  std::string hash_;
};

}  // namespace knapsaq
