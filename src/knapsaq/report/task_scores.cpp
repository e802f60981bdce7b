#include "knapsaq/report/task_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/report/kept_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kFormat = "knapsaq-task-scores";
constexpr std::string_view kFolder = "tasks";
/// More tasks than there are by far, so that a damaged file does not fill a page.
constexpr std::size_t kMostTasks = 1000;

json json_of(const Accuracy& accuracy) { return {accuracy.value, accuracy.standard_error}; }

std::uint64_t count_of(const json& object, const char* name) {
  return static_cast<std::uint64_t>(
      whole_number(object.at(name), name, 0, std::numeric_limits<std::int64_t>::max()));
}

Accuracy accuracy_of(const json& value) {
  const Accuracy accuracy{.value = value.at(0).get<double>(), .standard_error = value.at(1).get<double>()};
  if (!(accuracy.value >= 0 && accuracy.value <= 1) || !(accuracy.standard_error >= 0))
    throw InputError("an accuracy is none");
  return accuracy;
}

}  // namespace

void keep_task_scores(const TaskScores& scores, const fs::path& run, const fs::path& path) {
  json tasks = json::array();
  for (const TaskScores::Task& task : scores.tasks)
    tasks.push_back({{"name", task.name},
                     {"items", task.items},
                     {"acc", json_of(task.acc)},
                     {"acc_norm", task.acc_norm ? json_of(*task.acc_norm) : json(nullptr)}});
  const json value = {{"format", kFormat},
                      {"version", 1},
                      {"model", scores.model},
                      {"bytes", scores.bytes},
                      {"bits", scores.bits},
                      {"precision", scores.precision},
                      {"data", scores.data},
                      {"tasks", std::move(tasks)},
                      {"average", json_of(scores.average)}};
  // Names of folders need not be UTF-8.
  keep_file(run / kFolder, scores.model, path,
            value.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

TaskScores parse_task_scores(std::string_view text) {
  const json value = parse_json(text);
  try {
    if (value.at("format") != kFormat || value.at("version") != 1)
      throw InputError("is not the scores of a model in tasks");
    TaskScores scores;
    scores.model = value.at("model").get<std::string>();
    scores.bytes = count_of(value, "bytes");
    scores.bits = value.at("bits").get<double>();
    scores.precision = value.at("precision").get<std::string>();
    scores.data = value.at("data").get<std::string>();
    scores.average = accuracy_of(value.at("average"));
    if (!value.at("tasks").is_array() || value.at("tasks").size() > kMostTasks)
      throw InputError("'tasks' is no list of tasks");
    for (const json& one : value.at("tasks")) {
      TaskScores::Task task;
      task.name = one.at("name").get<std::string>();
      task.items = count_of(one, "items");
      task.acc = accuracy_of(one.at("acc"));
      if (!one.at("acc_norm").is_null()) task.acc_norm = accuracy_of(one.at("acc_norm"));
      scores.tasks.push_back(std::move(task));
    }
    return scores;
  } catch (const json::exception& error) {
    throw InputError("is not the scores of a model in tasks: " + json_reason(error));
  }
}

std::vector<TaskScores> read_task_scores(const fs::path& run) {
  std::vector<TaskScores> all;
  read_kept_files(run / kFolder, "remove it, or judge the model again",
                  [&](std::string_view text) { all.push_back(parse_task_scores(text)); });
  std::ranges::sort(all, [](const TaskScores& a, const TaskScores& b) {
    return std::tie(a.bytes, a.model) < std::tie(b.bytes, b.model);
  });
  return all;
}

}  // namespace knapsaq
