#pragma once

#include <filesystem>
#include <string>

#include "knapsaq/report/report_data.h"

namespace knapsaq {

/// One self-contained HTML page: data, script, style and charts are inside, and its own policy forbids it the
/// network. Nothing of the data can become markup or script.
std::string html_page(const ReportData& data);

/// Writes it atomically, over an older one. Throws IoError.
void write_html(const ReportData& data, const std::filesystem::path& path);

}  // namespace knapsaq
