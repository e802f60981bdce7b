#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/eval/tasks/task.h"

namespace knapsaq {

/// The items of a task from the text of a JSONL file: an object on each line that is not blank. `labels` is
/// the text of the file of labels, empty if there is none; its line i belongs to item i. `limit`: reads only
/// this many items and ignores the rest; 0: all. Throws InputError "WHERE:LINE: .." for a line that is not
/// such an item and for one without a gold label, and if there is no item.
std::vector<TaskItem> parse_items(const Task& task, std::string_view text, std::string_view labels,
                                  const std::string& where, std::int64_t limit = 0);

/// The items of `FOLDER/NAME.jsonl`, with `FOLDER/NAME-labels.lst` if the task has separate labels and the
/// file exists. Throws IoError if the items' file is missing or cannot be read.
std::vector<TaskItem> read_items(const Task& task, const std::filesystem::path& folder,
                                 std::int64_t limit = 0);

}  // namespace knapsaq
