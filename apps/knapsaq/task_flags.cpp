#include "task_flags.h"

#include <fmt/core.h>

#include "command.h"

namespace knapsaq::command {

void add_task_flags(Verb verb, TaskOptions& options) {
  verb.option("--tasks", options.names,
              "Zero-shot tasks, with commas: arc_easy, arc_challenge, piqa, hellaswag, winogrande, boolq, "
              "or all of them: all")
      .separated_by(',');
  verb.option("--data", options.data, "Folder with a NAME.jsonl for every task; see docs/commands.md");
  verb.option("--limit", options.limit, "The first N items of every task only; 0: all").range(0);
}

nlohmann::ordered_json json_of(const EvaluateResult::Tasks& tasks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const TaskScore& score : tasks.scores) {
    nlohmann::ordered_json task = {{"task", score.task},     {"items", score.items},
                                   {"acc", score.acc.value}, {"acc_stderr", score.acc.standard_error},
                                   {"acc_norm", nullptr},    {"acc_norm_stderr", nullptr}};
    if (score.has_norm) {
      task["acc_norm"] = score.acc_norm.value;
      task["acc_norm_stderr"] = score.acc_norm.standard_error;
    }
    list.push_back(std::move(task));
  }
  return {
      {"tasks", list}, {"average", tasks.average.value}, {"average_stderr", tasks.average.standard_error}};
}

void print(const EvaluateResult::Tasks& tasks) {
  fmt::print("{:<14} {:>7} {:>18} {:>18}\n", "task", "items", "acc", "acc_norm");
  const auto words = [](const TaskAccuracy& accuracy) {
    return fmt::format("{:.4f} +- {:.4f}", accuracy.value, accuracy.standard_error);
  };
  for (const TaskScore& score : tasks.scores)
    fmt::print("{:<14} {:>7} {:>18} {:>18}\n", score.task, score.items, words(score.acc),
               score.has_norm ? words(score.acc_norm) : "");
  fmt::print("average {} (acc_norm where there is one, else acc)\n", words(tasks.average));
}

}  // namespace knapsaq::command
