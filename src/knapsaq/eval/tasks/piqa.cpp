#include <fmt/format.h>

#include "knapsaq/eval/tasks/fields.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

/// Layouts: the benchmark's (`goal`, `sol1`, `sol2`, and `label` unless the labels lie in a file of their
/// own) and the common one.
TaskItem parse(const nlohmann::json& object) {
  if (task_fields::has(object, "query")) {
    const std::vector<std::string> answers = task_fields::texts(object, "choices");
    return task_fields::choices(task_fields::with_answer_line(task_fields::text(object, "query")), answers,
                                task_fields::gold(object, "gold", answers.size()));
  }
  const std::string context = fmt::format("Question: {}\nAnswer:", task_fields::text(object, "goal"));
  return task_fields::choices(context, {task_fields::text(object, "sol1"), task_fields::text(object, "sol2")},
                              task_fields::gold(object, "label", 2));
}

}  // namespace

const Task kPiqa = {.name = "piqa",
                    .about = "PIQA: which of two ways to do a thing works",
                    .normalises = true,
                    .labels_beside = true,
                    .parse = parse};

}  // namespace knapsaq
