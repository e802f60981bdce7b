#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/eval/tasks/fields.h"
#include "knapsaq/eval/tasks/python_text.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

/// Partial scoring: the answers are contexts, which end with the option; the rest of the sentence is the
/// continuation of both.
TaskItem item_of(const std::vector<std::string>& contexts, const std::string& continuation,
                 std::optional<std::int64_t> gold) {
  if (contexts.size() < 2) throw InputError("there are fewer than 2 answers to choose from");
  TaskItem item;
  for (const std::string& context : contexts)
    item.answers.push_back({context, " " + continuation, task_fields::characters(context)});
  item.gold = gold;
  return item;
}

/// Layouts: the benchmark's (`sentence` with a "_", `option1`, `option2`, `answer` from 1) and one with
/// `context_options` and `continuation`.
TaskItem parse(const nlohmann::json& object) {
  if (task_fields::has(object, "context_options")) {
    const std::vector<std::string> contexts = task_fields::texts(object, "context_options");
    return item_of(contexts, task_fields::text(object, "continuation"),
                   task_fields::gold(object, "gold", contexts.size()));
  }
  const std::string& sentence = task_fields::text(object, "sentence");
  const std::size_t blank = sentence.find('_');
  if (blank == std::string::npos) throw InputError("there is no '_' in 'sentence'");
  const std::string before = sentence.substr(0, blank);
  return item_of(
      {before + task_fields::text(object, "option1"), before + task_fields::text(object, "option2")},
      std::string(python_strip(std::string_view(sentence).substr(blank + 1))),
      task_fields::gold(object, "answer", 2, 1));
}

}  // namespace

const Task kWinoGrande = {.name = "winogrande",
                          .about = "WinoGrande: whom a sentence means",
                          .normalises = false,
                          .labels_beside = false,
                          .parse = parse};

}  // namespace knapsaq
