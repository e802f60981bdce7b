#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "knapsaq/report/report_data.h"

namespace knapsaq {

/// What two pages that show a report differ in. Markup goes into the page as it is.
struct PageParts {
  std::string title;    ///< text
  std::string kind;     ///< text: "search report"
  std::string maker;    ///< text: the command that makes such a page
  std::string head;     ///< markup: style, early.js, and policy where no server sends one
  std::string top;      ///< markup of what stands above the report's sections
  std::string scripts;  ///< markup: data, charts, script
};

/// The frame with its parts filled in.
std::string page_of(const PageParts& page);

/// One self-contained HTML page, about a run or about files (ReportData::files): data, script, style and
/// charts are inside, and its own policy forbids network requests. No data can become markup or script.
std::string html_page(const ReportData& data);

/// The content of the page's script element of type application/json: "<" only occurs in strings, where its
/// escape means the same, so neither "</script" nor "<!--" can occur. Text that is not UTF-8 (names of files)
/// gets replacement characters.
std::string page_data(const ReportData& data);

/// Whether a file with this beginning (4 KiB) is such a page.
bool is_html_page(std::string_view beginning);

/// Writes it atomically and replaces an older one. Throws IoError.
void write_html(const ReportData& data, const std::filesystem::path& path);

}  // namespace knapsaq
