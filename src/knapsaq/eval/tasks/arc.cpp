// AI2's Reasoning Challenge, both halves.

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/eval/tasks/fields.h"
#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {
namespace {

using nlohmann::json;

TaskItem item_of(const std::string& question, const std::vector<std::string>& answers,
                 const std::vector<std::string>& labels, const json& object) {
  std::optional<std::int64_t> gold;
  if (task_fields::has(object, "answerKey")) {
    const std::string& key = task_fields::text(object, "answerKey");
    const auto found = std::ranges::find(labels, key);
    // Test sets with withheld labels have an empty key.
    if (found == labels.end() && !key.empty())
      throw InputError(fmt::format("'answerKey' is none of the {} labels", labels.size()));
    if (found != labels.end()) gold = found - labels.begin();
  }
  if (gold && *gold >= std::ssize(answers)) throw InputError("there are more labels than answers");
  return task_fields::choices(fmt::format("Question: {}\nAnswer:", question), answers, gold);
}

/// Layouts: allenai/ai2_arc (`question`, `choices` of `text` and `label`), AI2's own (`question` of `stem`
/// and `choices`), and the common one.
TaskItem parse(const json& object) {
  if (task_fields::has(object, "query")) {
    const std::vector<std::string> answers = task_fields::texts(object, "choices");
    return task_fields::choices(task_fields::with_answer_line(task_fields::text(object, "query")), answers,
                                task_fields::gold(object, "gold", answers.size()));
  }
  const auto question = object.find("question");
  if (question != object.end() && question->is_object()) {
    std::vector<std::string> answers;
    std::vector<std::string> labels;
    const auto choices = question->find("choices");
    if (choices == question->end() || !choices->is_array())
      throw InputError("there is no list 'choices' in 'question'");
    for (const json& choice : *choices) {
      if (!choice.is_object()) throw InputError("one of the 'choices' is no object");
      answers.push_back(task_fields::text(choice, "text"));
      labels.push_back(task_fields::text(choice, "label"));
    }
    return item_of(task_fields::text(*question, "stem"), answers, labels, object);
  }
  const auto choices = object.find("choices");
  if (choices == object.end() || !choices->is_object())
    throw InputError("there are neither 'query' nor 'choices' of 'text' and 'label'");
  return item_of(task_fields::text(object, "question"), task_fields::texts(*choices, "text"),
                 task_fields::texts(*choices, "label"), object);
}

}  // namespace

const Task kArcEasy = {.name = "arc_easy",
                       .about = "ARC-Easy: science questions of schools",
                       .normalises = true,
                       .labels_beside = false,
                       .parse = parse};
const Task kArcChallenge = {.name = "arc_challenge",
                            .about = "ARC-Challenge: those that simple methods get wrong",
                            .normalises = true,
                            .labels_beside = false,
                            .parse = parse};

}  // namespace knapsaq
