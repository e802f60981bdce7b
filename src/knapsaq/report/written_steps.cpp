#include "knapsaq/report/written_steps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/report/kept_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kFormat = "knapsaq-written-steps";
constexpr std::string_view kFolder = "written-models";
/// More steps than there are by far, so that a damaged file does not fill a page.
constexpr std::size_t kMostSteps = 100;

double number_of(const json& object, const char* name) {
  const double value = object.at(name).get<double>();
  if (!std::isfinite(value) || value < 0) throw InputError(fmt::format("'{}' is no such number", name));
  return value;
}

}  // namespace

void keep_written_steps(const WrittenSteps& steps, const fs::path& run, const fs::path& path) {
  json list = json::array();
  for (const WrittenSteps::Step& step : steps.steps)
    list.push_back({{"name", step.name},
                    {"divergence", step.divergence},
                    {"standard_error", step.standard_error},
                    {"perplexity", step.perplexity},
                    {"agreement", step.agreement}});
  const json value = {{"format", kFormat},       {"version", 1},         {"model", steps.model},
                      {"effort", steps.effort},  {"bytes", steps.bytes}, {"bits", steps.bits},
                      {"steps", std::move(list)}};
  // Names of folders need not be UTF-8.
  keep_file(run / kFolder, steps.model, path,
            value.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

WrittenSteps parse_written_steps(std::string_view text) {
  const json value = parse_json(text);
  try {
    if (value.at("format") != kFormat || value.at("version") != 1)
      throw InputError("is not the steps to a written model");
    WrittenSteps steps;
    steps.model = value.at("model").get<std::string>();
    steps.effort = value.at("effort").get<std::string>();
    steps.bytes = static_cast<std::uint64_t>(
        whole_number(value.at("bytes"), "bytes", 0, std::numeric_limits<std::int64_t>::max()));
    steps.bits = number_of(value, "bits");
    if (!value.at("steps").is_array() || value.at("steps").size() > kMostSteps)
      throw InputError("'steps' is no list of steps");
    for (const json& one : value.at("steps"))
      steps.steps.push_back({.name = one.at("name").get<std::string>(),
                             .divergence = number_of(one, "divergence"),
                             .standard_error = number_of(one, "standard_error"),
                             .perplexity = number_of(one, "perplexity"),
                             .agreement = number_of(one, "agreement")});
    return steps;
  } catch (const json::exception& error) {
    throw InputError("is not the steps to a written model: " + json_reason(error));
  }
}

std::vector<WrittenSteps> read_written_steps(const fs::path& run) {
  std::vector<WrittenSteps> all;
  read_kept_files(run / kFolder, "remove it",
                  [&](std::string_view text) { all.push_back(parse_written_steps(text)); });
  std::ranges::stable_sort(all, {}, [](const WrittenSteps& one) { return std::tuple(one.bytes, one.model); });
  return all;
}

}  // namespace knapsaq
