#pragma once

#include <filesystem>
#include <string_view>

#include "knapsaq/search/run.h"

namespace knapsaq::command {

/// The page about a run in its own folder.
inline constexpr std::string_view kReportName = "report.html";

/// Writes the page about a run, with its study if there is one. Throws as write_html() and parse_study().
void make_report(const Run& run, const std::filesystem::path& output);

}  // namespace knapsaq::command
