#pragma once

#include <filesystem>
#include <string_view>

#include "knapsaq/report/collect_report.h"
#include "knapsaq/search/run.h"

namespace knapsaq {

/// The page about a run in its own folder.
inline constexpr std::string_view kReportName = "report.html";

/// Everything that is known of a run by now, with its study if there is one. Throws as parse_study().
ReportData report_of(const Run& run);
/// The same with run.bank().table(), which whoever asks again and again reads once.
ReportData report_of(const Run& run, const ErrorTable& table);
/// Writes the page about a run. Throws as write_html() and report_of().
void make_report(const Run& run, const std::filesystem::path& output);

}  // namespace knapsaq
