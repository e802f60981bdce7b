#pragma once

#include "command.h"
#include "knapsaq/pipeline/judge_files.h"

namespace knapsaq::command {

/// `compare` with --reference: judges the files and prints the table.
void compare_files(const Common& common, const JudgeFilesOptions& options);

}  // namespace knapsaq::command
