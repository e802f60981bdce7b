#pragma once

#include <filesystem>

#include "knapsaq/search/run.h"

namespace knapsaq::command {

/// Writes the page about a run, with its study if there is one. Throws as write_html() and parse_study().
void make_report(const Run& run, const std::filesystem::path& output);

}  // namespace knapsaq::command
