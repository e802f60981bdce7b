#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/eval/tasks/item.h"

namespace knapsaq {

/// A zero-shot task by the rules of EleutherAI's lm-evaluation-harness, under its name there.
struct Task {
  std::string_view name;
  std::string_view about;
  /// Whether the harness reports acc_norm. If so, acc_norm enters the average, as in AMQ's.
  bool normalises = false;
  /// Whether its original labels are in a separate file, a number per line.
  bool labels_beside = false;
  /// An item from one line's object, in any of the layouts in which the task is published. Throws InputError
  /// that says what is wrong, without the location. The caller sets `line`.
  TaskItem (*parse)(const nlohmann::json& object) = nullptr;
};

// One file each. To add a task, write its file and name it here and in registry.cpp.
extern const Task kArcEasy;
extern const Task kArcChallenge;
extern const Task kPiqa;
extern const Task kHellaSwag;
extern const Task kWinoGrande;
extern const Task kBoolQ;

/// All tasks, in the order of AMQ's tables.
std::span<const Task* const> all_tasks();
/// The tasks of a list of names, each once, in the list's order; "all" means all of them. Throws UsageError
/// for an unknown name.
std::vector<const Task*> parse_tasks(std::span<const std::string> names);

}  // namespace knapsaq
