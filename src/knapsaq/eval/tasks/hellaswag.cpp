#include <string>

#include "knapsaq/eval/tasks/fields.h"
#include "knapsaq/eval/tasks/python_text.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

/// The harness's cleaning of the remaining WikiHow markup: titles become ends of sentences, other brackets
/// are removed with their content (up to the end of the line), and two blanks become one.
std::string cleaned(std::string_view text) {
  const std::string titled = replaced(python_strip(text), " [title]", ". ");
  std::string result;
  for (std::size_t at = 0; at < titled.size();) {
    if (titled[at] == '[') {
      const std::size_t end = titled.find_first_of("]\n", at);
      if (end != std::string::npos && titled[end] == ']') {
        at = end + 1;
        continue;
      }
    }
    result += titled[at++];
  }
  return replaced(result, "  ", " ");
}

/// Layouts: the benchmark's (`activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`) and the common one,
/// whose texts are cleaned already.
TaskItem parse(const nlohmann::json& object) {
  if (task_fields::has(object, "query")) {
    const std::vector<std::string> answers = task_fields::texts(object, "choices");
    return task_fields::choices(task_fields::text(object, "query"), answers,
                                task_fields::gold(object, "gold", answers.size()));
  }
  std::vector<std::string> endings = task_fields::texts(object, "endings");
  for (std::string& ending : endings) ending = cleaned(ending);
  const std::string context = task_fields::text(object, "activity_label") + ": " +
                              task_fields::text(object, "ctx_a") + " " +
                              python_capitalize(task_fields::text(object, "ctx_b"));
  return task_fields::choices(cleaned(context), endings, task_fields::gold(object, "label", endings.size()));
}

}  // namespace

const Task kHellaSwag = {.name = "hellaswag",
                         .about = "HellaSwag: how a description goes on",
                         .normalises = true,
                         .labels_beside = false,
                         .parse = parse};

}  // namespace knapsaq
