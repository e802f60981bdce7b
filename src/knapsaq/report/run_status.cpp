#include "knapsaq/report/run_status.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "knapsaq-status";
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kMost = std::int64_t{1} << 62;

constexpr std::array<std::pair<RunStatus::State, std::string_view>, 4> kStates = {{
    {RunStatus::State::running, "running"},
    {RunStatus::State::stopped, "stopped"},
    {RunStatus::State::finished, "finished"},
    {RunStatus::State::failed, "failed"},
}};

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

double read_number(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::int64_t read_count(const json& object, const char* name) {
  return whole_number(object.at(name), name, 0, kMost);
}

RunStatus::State read_state(const std::string& name) {
  for (const auto& [state, known] : kStates)
    if (known == name) return state;
  throw InputError(fmt::format("the state {} is unknown", in_quotes(name)));
}

RunStatus::Stage read_stage(const json& stage) {
  return {stage.at("name").get<std::string>(),
          stage.at("unit").get<std::string>(),
          static_cast<std::uint64_t>(read_count(stage, "done")),
          static_cast<std::uint64_t>(read_count(stage, "total")),
          read_number(stage.at("seconds")),
          read_number(stage.at("rate")),
          read_number(stage.at("left"))};
}

RunStatus::Search read_search(const json& search) {
  return {search.at("strategy").get<std::string>(), search.at("phase").get<std::string>(),
          read_count(search, "evaluations"),        read_count(search, "measured"),
          read_count(search, "expected"),           read_number(search.at("full_passes")),
          read_number(search.at("seconds")),        read_number(search.at("rate")),
          read_number(search.at("left")),           search.at("can_stop").get<bool>()};
}

Budget read_budget(const json& budget) {
  const bool files = budget.at("of").get<std::string>() == "files";
  return {static_cast<std::uint64_t>(read_count(budget, "bytes")),
          files ? Budget::Of::files : Budget::Of::linears};
}

}  // namespace

std::string_view name_of(RunStatus::State state) {
  for (const auto& [known, name] : kStates)
    if (known == state) return name;
  return {};
}

std::string to_text(const RunStatus& status) {
  json result = {{"format", kFormat},
                 {"version", kVersion},
                 {"process", {{"id", status.process.id}, {"start", status.process.start}}},
                 {"state", name_of(status.state)},
                 {"started", number(status.started)},
                 {"updated", number(status.updated)},
                 {"stage", nullptr},
                 {"search", nullptr},
                 {"budget", nullptr},
                 {"memory", {{"resident", status.resident}, {"peak", status.peak}}},
                 {"log", json::array()}};
  if (status.stage) {
    const RunStatus::Stage& stage = *status.stage;
    result["stage"] = {{"name", stage.name},
                       {"unit", stage.unit},
                       {"done", stage.done},
                       {"total", stage.total},
                       {"seconds", number(stage.seconds)},
                       {"rate", number(stage.rate)},
                       {"left", number(stage.left)}};
  }
  if (status.search) {
    const RunStatus::Search& search = *status.search;
    result["search"] = {{"strategy", search.strategy},       {"phase", search.phase},
                        {"evaluations", search.evaluations}, {"measured", search.measured},
                        {"expected", search.expected},       {"full_passes", number(search.full_passes)},
                        {"seconds", number(search.seconds)}, {"rate", number(search.rate)},
                        {"left", number(search.left)},       {"can_stop", search.can_stop}};
  }
  if (status.budget)
    result["budget"] = {{"bytes", status.budget->bytes},
                        {"of", status.budget->of == Budget::Of::files ? "files" : "linears"}};
  for (const RunStatus::Line& line : status.log) result["log"].push_back({number(line.time), line.text});
  return result.dump(-1, ' ', false, json::error_handler_t::replace);
}

RunStatus parse_run_status(std::string_view text) {
  try {
    const json read = parse_json(text);
    if (read.at("format") != kFormat) throw InputError("is no status of a run");
    if (read.at("version") != kVersion) throw InputError("is of another version of Knapsaq");
    RunStatus status;
    status.process.id =
        whole_number(read.at("process").at("id"), "process", 0, std::numeric_limits<std::int32_t>::max());
    status.process.start = read.at("process").at("start").get<std::string>();
    status.state = read_state(read.at("state").get<std::string>());
    status.started = read_number(read.at("started"));
    status.updated = read_number(read.at("updated"));
    if (!read.at("stage").is_null()) status.stage = read_stage(read["stage"]);
    if (!read.at("search").is_null()) status.search = read_search(read["search"]);
    if (!read.at("budget").is_null()) status.budget = read_budget(read["budget"]);
    status.resident = static_cast<std::uint64_t>(read_count(read.at("memory"), "resident"));
    status.peak = static_cast<std::uint64_t>(read_count(read["memory"], "peak"));
    for (const json& line : read.at("log"))
      status.log.push_back({read_number(line.at(0)), line.at(1).get<std::string>()});
    return status;
  } catch (const json::exception& error) {
    throw InputError(fmt::format("is no status of a run: {}", json_reason(error)));
  }
}

}  // namespace knapsaq
