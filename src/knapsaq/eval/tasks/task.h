#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/eval/tasks/item.h"

namespace knapsaq {

/// A zero-shot task by the rules of EleutherAI's lm-evaluation-harness, whose name it has.
struct Task {
  std::string_view name;
  std::string_view about;
  /// Whether the harness tells acc_norm of it. That is then what counts in the average, as in AMQ's.
  bool normalises = false;
  /// Whether its original labels lie beside it in a file of their own, a number per line.
  bool labels_beside = false;
  /// An item from one line's object, in any of the layouts that the task is published in. Throws InputError:
  /// only what is wrong, without the place. `line` is left to the caller.
  TaskItem (*parse)(const nlohmann::json& object) = nullptr;
};

// One file each. To add a task is to write its file and to name it here and in registry.cpp.
extern const Task kArcEasy;
extern const Task kArcChallenge;
extern const Task kPiqa;
extern const Task kHellaSwag;
extern const Task kWinoGrande;
extern const Task kBoolQ;

/// All tasks, in the order of AMQ's tables.
std::span<const Task* const> all_tasks();
/// The tasks of a list of names, each once, in the list's order; "all" is all of them. Throws UsageError for
/// a name that is none.
std::vector<const Task*> parse_tasks(std::span<const std::string> names);

}  // namespace knapsaq
