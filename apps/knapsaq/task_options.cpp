#include "task_options.h"

#include <fmt/core.h>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"

namespace knapsaq::command {

void add_task_options(Verb verb, TaskOptions& options) {
  verb.option("--tasks", options.names,
              "Zero-shot tasks, with commas: arc_easy, arc_challenge, piqa, hellaswag, winogrande, boolq, "
              "or all of them: all")
      .separated_by(',');
  verb.option("--data", options.data, "Folder with a NAME.jsonl for every task; see docs/commands.md");
  verb.option("--limit", options.limit, "The first N items of every task only; 0: all").range(0);
}

TaskSet read_tasks(const TaskOptions& options, const Tokenizer& tokenizer, const ModelConfig& config) {
  if (options.names.empty()) {
    if (!options.data.empty() || options.limit != 0)
      throw UsageError("--data and --limit are for tasks: name them with --tasks");
    return {};
  }
  const std::vector<const Task*> tasks = parse_tasks(options.names);
  if (options.data.empty()) throw UsageError("--tasks needs --data: the folder with their files");
  if (options.limit < 0) throw UsageError("--limit cannot be negative");
  return TaskSet::read(tasks, options.data, tokenizer, config.max_positions, options.limit, progress());
}

std::vector<TaskResult> judge(const TaskSet& tasks, Decoder& decoder) {
  return tasks.judge([&](auto tokens, auto segments, auto targets,
                         auto out) { decoder.segment_losses(tokens, segments, targets, out); },
                     progress());
}

nlohmann::ordered_json json_of(std::span<const TaskResult> results) {
  nlohmann::ordered_json tasks = nlohmann::ordered_json::array();
  for (const TaskResult& result : results) {
    nlohmann::ordered_json task = {{"task", result.task},     {"items", result.items.size()},
                                   {"acc", result.acc.value}, {"acc_stderr", result.acc.standard_error},
                                   {"acc_norm", nullptr},     {"acc_norm_stderr", nullptr}};
    if (result.acc_norm) {
      task["acc_norm"] = result.acc_norm->value;
      task["acc_norm_stderr"] = result.acc_norm->standard_error;
    }
    tasks.push_back(std::move(task));
  }
  const Accuracy mean = average(results);
  return {{"tasks", tasks}, {"average", mean.value}, {"average_stderr", mean.standard_error}};
}

void print(std::span<const TaskResult> results) {
  fmt::print("{:<14} {:>7} {:>18} {:>18}\n", "task", "items", "acc", "acc_norm");
  const auto words = [](const Accuracy& accuracy) {
    return fmt::format("{:.4f} +- {:.4f}", accuracy.value, accuracy.standard_error);
  };
  for (const TaskResult& result : results)
    fmt::print("{:<14} {:>7} {:>18} {:>18}\n", result.task, result.items.size(), words(result.acc),
               result.acc_norm ? words(*result.acc_norm) : "");
  fmt::print("average {} (acc_norm where there is one, else acc)\n", words(average(results)));
}

bool are_samples(std::string_view beginning) {
  const std::string_view line = beginning.substr(0, beginning.find('\n'));
  return line.starts_with(R"({"task":")") && line.find(R"(,"log_likelihoods":[)") != line.npos;
}

void write_samples(std::span<const TaskResult> results, const std::filesystem::path& path) {
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

}  // namespace knapsaq::command
