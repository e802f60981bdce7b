#include "knapsaq/eval/tasks/task_set.h"

#include <fmt/format.h>

#include "knapsaq/base/hash.h"
#include "knapsaq/eval/tasks/read_items.h"

namespace knapsaq {

TaskSet TaskSet::read(std::span<const Task* const> tasks, const std::filesystem::path& folder,
                      const Tokenizer& tokenizer, std::int64_t positions, std::int64_t limit,
                      Progress& progress) {
  TaskSet set;
  // All files are read before any of them is tokenized, so errors in any file are reported at once.
  for (const Task* task : tasks)
    set.parts_.push_back({.task = task, .items = read_items(*task, folder, limit), .encoded = {}});
  Hasher hasher;
  for (Part& part : set.parts_) {
    const std::string where = (folder / fmt::format("{}.jsonl", part.task->name)).string();
    part.encoded = encode_items(tokenizer, part.items, positions, where, progress);
    hasher.update(fmt::format("{}:{}:", part.task->name, part.items.size()));
    for (std::size_t i = 0; i < part.items.size(); ++i) {
      hasher.update(fmt::format("{}:", part.items[i].gold.value()));
      for (const EncodedAnswer& answer : part.encoded[i].answers) {
        hasher.update(fmt::format("{}/{}:", answer.first, answer.tokens.size()));
        hasher.update(std::as_bytes(std::span(answer.tokens)));
      }
    }
  }
  set.hash_ = hasher.hex().substr(0, 16);
  return set;
}

std::vector<TaskResult> TaskSet::judge(const SegmentLossFunction& losses, std::int64_t batch_rows,
                                       Progress& progress) const {
  std::vector<TaskResult> results;
  for (const Part& part : parts_)
    results.push_back(
        knapsaq::judge(*part.task, part.items, score_items(part.encoded, losses, batch_rows, progress)));
  return results;
}

std::vector<std::string> TaskSet::names() const {
  std::vector<std::string> names;
  for (const Part& part : parts_) names.emplace_back(part.task->name);
  return names;
}

std::int64_t TaskSet::items() const {
  std::int64_t count = 0;
  for (const Part& part : parts_) count += std::ssize(part.items);
  return count;
}

}  // namespace knapsaq
