#include "knapsaq/report/html_page.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/report/page_files.h"

namespace knapsaq {
namespace {

/// For text between tags.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

/// A name in valid UTF-8, by the same rule as in the data.
std::string clean(std::string_view text) {
  const nlohmann::json value = std::string(text);
  return nlohmann::json::parse(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
      .get<std::string>();
}

}  // namespace

std::string page_data(const ReportData& data) {
  const std::string text = to_json(data).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    if (c == '<')
      result += "\\u003c";
    else
      result += c;
  }
  return result;
}

std::string page_of(const PageParts& page) {
  const std::pair<std::string_view, std::string> parts[] = {
      {"{{TITLE}}", escaped(clean(page.title))},  {"{{HEAD}}", page.head},
      {"{{KIND}}", escaped(page.kind)},           {"{{TOP}}", page.top},
      {"{{MAKER}}", escaped(page.maker)},         {"{{SCRIPTS}}", page.scripts},
      {"{{LICENCES}}", escaped(page_licences())},
  };
  // In one pass over the frame: what is inserted is never looked at again.
  std::string result;
  std::string_view frame = page_html();
  for (std::size_t open = frame.find("{{"); open != std::string_view::npos; open = frame.find("{{")) {
    result += frame.substr(0, open);
    frame.remove_prefix(open);
    const auto* part = std::ranges::find_if(parts, [&](const auto& p) { return frame.starts_with(p.first); });
    if (part == std::end(parts)) throw std::logic_error("page.html has a name that nobody fills in");
    result += part->second;
    frame.remove_prefix(part->first.size());
  }
  result += frame;
  return result;
}

std::string html_page(const ReportData& data) {
  PageParts page;
  page.title = data.model.name;
  page.kind = data.files.empty() ? "search report" : "comparison of files";
  page.maker = data.files.empty() ? "knapsaq report" : "knapsaq compare";
  // The page is whole in itself; the policy makes sure that it asks nothing of a network.
  page.head = fmt::format(
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; img-src data:\">\n<style>{}</style>\n<script>{}</script>",
      page_css(), page_early_js());
  page.scripts = fmt::format(
      "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{}</script>\n<script>{}{}</script>",
      page_data(data), page_charts(), page_js(), page_static_js());
  return page_of(page);
}

bool is_html_page(std::string_view beginning) {
  return beginning.starts_with("<!doctype html>") &&
         beginning.find(" - Knapsaq</title>") != std::string_view::npos;
}

void write_html(const ReportData& data, const std::filesystem::path& path) {
  write_file(path, html_page(data));
}

}  // namespace knapsaq
