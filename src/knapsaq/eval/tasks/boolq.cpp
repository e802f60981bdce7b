#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/eval/tasks/fields.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

constexpr std::string_view kPassage = "Passage: ";

/// Layouts: SuperGLUE's and the benchmark's own (`passage`, `question`, `label` or `answer`), and the common
/// one, whose query is "Passage: ..\nQuestion: ..?" and whose choices are no and yes.
TaskItem parse(const nlohmann::json& object) {
  const std::vector<std::string> answers = {"no", "yes"};
  if (task_fields::has(object, "query")) {
    if (task_fields::texts(object, "choices") != answers) throw InputError("'choices' are not no and yes");
    std::string query = task_fields::with_answer_line(task_fields::text(object, "query"));
    if (query.starts_with(kPassage)) query.erase(0, kPassage.size());
    return task_fields::choices(query, answers, task_fields::gold(object, "gold", 2));
  }
  const std::string context = fmt::format("{}\nQuestion: {}?\nAnswer:", task_fields::text(object, "passage"),
                                          task_fields::text(object, "question"));
  return task_fields::choices(
      context, answers, task_fields::gold(object, task_fields::has(object, "label") ? "label" : "answer", 2));
}

}  // namespace

const Task kBoolQ = {.name = "boolq",
                     .about = "BoolQ: questions about a passage, no or yes",
                     .normalises = false,
                     .labels_beside = false,
                     .parse = parse};

}  // namespace knapsaq
