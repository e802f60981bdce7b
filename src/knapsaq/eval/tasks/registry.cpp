#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

constexpr std::array kTasks = {&kArcEasy, &kArcChallenge, &kPiqa, &kHellaSwag, &kWinoGrande, &kBoolQ};

}  // namespace

std::span<const Task* const> all_tasks() { return kTasks; }

std::vector<const Task*> parse_tasks(std::span<const std::string> names) {
  std::vector<const Task*> tasks;
  const auto add = [&](const Task* task) {
    if (std::ranges::find(tasks, task) == tasks.end()) tasks.push_back(task);
  };
  for (const std::string& name : names) {
    if (name == "all") {
      for (const Task* task : kTasks) add(task);
      continue;
    }
    const auto found = std::ranges::find_if(kTasks, [&](const Task* task) { return task->name == name; });
    if (found == kTasks.end()) {
      std::string known;
      for (const Task* task : kTasks) known += fmt::format("{}, ", task->name);
      throw UsageError(fmt::format("{} is not a task: choose {}or all", in_quotes(name), known));
    }
    add(*found);
  }
  if (tasks.empty()) throw UsageError("there is no task in the list: name one, or all");
  return tasks;
}

}  // namespace knapsaq
