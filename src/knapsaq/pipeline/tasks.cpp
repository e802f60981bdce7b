#include "knapsaq/pipeline/tasks.h"

#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/family/config.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

TaskSet read_tasks(Session& session, const TaskOptions& options) {
  if (options.names.empty()) {
    if (!options.data.empty() || options.limit != 0)
      throw UsageError("--data and --limit are for tasks: name them with --tasks");
    return {};
  }
  const std::vector<const Task*> tasks = parse_tasks(options.names);
  if (options.data.empty()) throw UsageError("--tasks needs --data: the folder with their files");
  if (options.limit < 0) throw UsageError("--limit cannot be negative");
  return TaskSet::read(tasks, options.data, session.tokenizer(), session.config().max_positions,
                       options.limit, session.listener());
}

std::vector<TaskResult> judge(const TaskSet& tasks, Decoder& decoder, Progress& progress) {
  return tasks.judge([&](auto tokens, auto segments, auto targets,
                         auto out) { decoder.segment_losses(tokens, segments, targets, out); },
                     decoder.windows_per_batch(1), progress);
}

std::vector<TaskScore> scores_of(std::span<const TaskResult> results) {
  std::vector<TaskScore> scores;
  for (const TaskResult& result : results) {
    TaskScore score{.task = std::string(result.task),
                    .items = std::ssize(result.items),
                    .acc = {result.acc.value, result.acc.standard_error},
                    .has_norm = result.acc_norm.has_value(),
                    .acc_norm = {}};
    if (result.acc_norm) score.acc_norm = {result.acc_norm->value, result.acc_norm->standard_error};
    scores.push_back(std::move(score));
  }
  return scores;
}

bool are_items(std::string_view beginning) {
  const std::string_view line = beginning.substr(0, beginning.find('\n'));
  return line.starts_with(R"({"task":")") && line.find(R"(,"log_likelihoods":[)") != line.npos;
}

void write_items(std::span<const TaskResult> results, const std::filesystem::path& path) {
  AtomicFile file(path);
  for (const TaskResult& result : results) {
    for (const ItemResult& item : result.items) {
      nlohmann::ordered_json line = {{"task", result.task},
                                     {"line", item.line},
                                     {"gold", item.gold},
                                     {"log_likelihoods", item.log_likelihoods},
                                     {"chosen", item.chosen}};
      if (result.acc_norm) line["chosen_normalised"] = item.chosen_normalised;
      file.write(line.dump() + "\n");
    }
  }
  file.commit();
}

}  // namespace knapsaq
