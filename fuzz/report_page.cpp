// A run's files and names on the page of a report: the input is an object with "study" and "tasks", as files
// of a run hold them, and "names", which become the names of everything that has one. Whatever they are, the
// page's markup and scripts stay what they are without them, and its data can be read.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/report/html_page.h"
#include "knapsaq/report/study_facts.h"

namespace {

using namespace knapsaq;
using nlohmann::json;

/// The page without its data, which lie between these two, and without its title.
struct Page {
  std::string rest;
  std::string data;
  std::string title;
};

/// Moves what stands between `open` and the next `close` out of the text.
std::string take(std::string& text, std::string_view open, std::string_view close) {
  const std::size_t begin = text.find(open);
  if (begin == std::string::npos) std::abort();
  const std::size_t from = begin + open.size();
  const std::size_t end = text.find(close, from);
  if (end == std::string::npos) std::abort();
  std::string taken = text.substr(from, end - from);
  text.erase(from, end - from);
  return taken;
}

Page page_of(const ReportData& data) {
  Page page{.rest = html_page(data), .data = {}, .title = {}};
  page.title = take(page.rest, "<title>", "</title>");
  page.data = take(page.rest, R"(id="data">)", "</script>");
  return page;
}

/// Every name in turn, over and over.
class Names {
 public:
  explicit Names(const json& list) {
    if (list.is_array())
      for (const json& one : list)
        if (one.is_string()) names_.push_back(one.get<std::string>());
    if (names_.empty()) names_.emplace_back("name");
  }
  std::string next() { return names_[at_++ % names_.size()]; }

 private:
  std::vector<std::string> names_;
  std::size_t at_ = 0;
};

ReportData named(Names names) {
  ReportData data;
  data.model.name = names.next();
  data.model.architecture = names.next();
  data.pick_command = names.next();
  data.linears = {
      {.name = names.next(), .block = 0, .module = names.next(), .parameters = 1, .statistics = {}}};
  data.variables = {{.name = names.next(), .linears = {0}, .parameters = 1, .levels = {{0, 1, 2, 0.5}}}};
  data.points = {{.point = {0}, .bytes = 1, .bits = 2, .measurement = {}}};
  ReportSearch search;
  search.strategy = names.next();
  search.options = names.next();
  search.steps = {{.point = 0, .predicted = NAN}};
  search.phases = {{names.next(), 1.0}};
  search.rounds = {{names.next()}, {{1.0}}};
  data.searches = {std::move(search)};
  data.sensitivities = {{.strategy = names.next(), .values = {NAN}, .threshold = {}}};
  data.heldout = {{.label = names.next(),
                   .uniform = false,
                   .bytes = 1,
                   .bits = 2,
                   .measurement = {},
                   .standard_error = 0}};
  return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const Page empty = page_of(ReportData{});
  try {
    const json input = parse_json({reinterpret_cast<const char*>(bytes), size});
    if (!input.is_object()) return 0;
    ReportData data = named(Names(input.value("names", json())));
    if (input.contains("study")) data.study = parse_study(input["study"].dump(), data.variables.size());
    if (input.contains("tasks")) data.tasks.push_back(parse_task_scores(input["tasks"].dump()));
    const std::string text = page_data(data);
    if (text.find('<') != std::string::npos) std::abort();
    const json read = json::parse(text);
    for (const auto& [found, name] :
         {std::pair(read.at("model").at("name"), data.model.name),
          std::pair(read.at("pickCommand"), data.pick_command),
          std::pair(read.at("searches").at(0).at("strategy"), data.searches[0].strategy)})
      if (found != name) std::abort();
    // The page around the data is a megabyte that never changes: now and then will do.
    if (std::accumulate(bytes, bytes + size, std::size_t{0}) % 64 != 0) return 0;
    const Page page = page_of(data);
    if (page.data != text || page.rest != empty.rest || page.title.find('<') != std::string::npos)
      std::abort();
  } catch (const InputError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
