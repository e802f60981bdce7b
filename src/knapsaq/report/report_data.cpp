#include "knapsaq/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <nlohmann/json.hpp>

namespace knapsaq {
namespace {

using nlohmann::json;

/// Digits of a level's number in the packed points; two of them where a variable has more levels.
constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// What a plot of some thousand pixels can show, with some to spare for the numbers beside it.
constexpr int kSignificant = 6;

/// Null for what is not finite.
json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", kSignificant, value);
  const double rounded = std::strtod(text, nullptr);
  // Whole numbers without ".0": there are ten thousands of them.
  if (rounded == std::floor(rounded) && std::abs(rounded) < 1e15) return static_cast<std::int64_t>(rounded);
  return rounded;
}

json number(const std::optional<double>& value) { return value ? number(*value) : json(nullptr); }

json numbers(const std::vector<double>& values) {
  json result = json::array();
  for (const double value : values) result.push_back(number(value));
  return result;
}

/// One column of the points' table; null if no point has the number.
template <typename Value>
json column(const std::vector<ReportPoint>& points, Value value) {
  json result = json::array();
  bool any = false;
  for (const ReportPoint& point : points) {
    result.push_back(number(value(point)));
    any = any || !result.back().is_null();
  }
  return any ? result : json(nullptr);
}

std::string packed(const Point& point, std::size_t width) {
  std::string result;
  result.reserve(point.size() * width);
  for (const std::uint8_t level : point) {
    if (width == 2) result += kDigits[level / kDigits.size()];
    result += kDigits[level % kDigits.size()];
  }
  return result;
}

/// For every point whether its allocation is in the page: those of all fronts first, then the others in
/// their order as far as there is room.
std::vector<bool> with_allocation(const ReportData& data, std::size_t room) {
  std::vector<bool> result(data.points.size());
  std::size_t count = 0;
  const auto take = [&](std::size_t index) {
    if (result[index] || count >= room) return;
    result[index] = true;
    ++count;
  };
  for (const std::size_t index : data.front) take(index);
  for (const ReportSearch& search : data.searches)
    for (const std::size_t index : search.front) take(index);
  for (std::size_t index = 0; index < data.points.size(); ++index) take(index);
  return result;
}

json points_json(const ReportData& data, std::size_t most_digits) {
  std::size_t levels = 0;
  for (const ReportVariable& variable : data.variables) levels = std::max(levels, variable.levels.size());
  const std::size_t width = levels > kDigits.size() ? 2 : 1;
  const std::size_t digits = std::max<std::size_t>(1, data.variables.size() * width);
  const std::vector<bool> kept = with_allocation(data, most_digits / digits);
  std::string allocations;
  json dropped = json::array();
  for (std::size_t i = 0; i < data.points.size(); ++i) {
    if (kept[i])
      allocations += packed(data.points[i].point, width);
    else
      dropped.push_back(i);
  }
  json bytes = json::array();
  for (const ReportPoint& point : data.points) bytes.push_back(point.bytes);
  return {
      {"width", width},
      {"allocations", std::move(allocations)},
      {"dropped", std::move(dropped)},
      {"bytes", std::move(bytes)},
      {"bits", column(data.points, [](const ReportPoint& p) { return p.bits; })},
      {"windows",
       column(data.points, [](const ReportPoint& p) { return static_cast<double>(p.measurement.windows); })},
      {"kl", column(data.points, [](const ReportPoint& p) { return p.measurement.kl; })},
      {"jsd", column(data.points, [](const ReportPoint& p) { return p.measurement.jsd; })},
      {"loss", column(data.points, [](const ReportPoint& p) { return p.measurement.loss; })},
      {"agreement", column(data.points, [](const ReportPoint& p) { return p.measurement.agreement; })},
  };
}

json table_json(const ReportTable& table) {
  json columns = json::array();
  for (const auto& values : table.columns) columns.push_back(numbers(values));
  return {{"names", table.names}, {"columns", std::move(columns)}};
}

json search_json(const ReportSearch& search) {
  json steps = json::array();
  json predicted = json::array();
  bool any = false;
  for (const ReportStep& step : search.steps) {
    steps.push_back(step.point);
    predicted.push_back(number(step.predicted));
    any = any || !predicted.back().is_null();
  }
  json progress = json::array();
  for (const ReportProgress& one : search.progress)
    progress.push_back({one.evaluations, number(one.full_passes), number(one.hypervolume)});
  json phases = json::array();
  for (const auto& [name, passes] : search.phases) phases.push_back({name, number(passes)});
  return {{"strategy", search.strategy},
          {"options", search.options},
          {"seed", std::to_string(search.seed)},  // 64 bits, which a number of JavaScript does not hold
          {"finished", search.finished},
          {"steps", std::move(steps)},
          {"predicted", any ? std::move(predicted) : json(nullptr)},
          {"fullPasses", number(search.full_passes)},
          {"seconds", number(search.seconds)},
          {"phases", std::move(phases)},
          {"front", search.front},
          {"progress", std::move(progress)},
          {"rounds", table_json(search.rounds)}};
}

json spread_json(const ReportSpread& spread) {
  return {{"mean", number(spread.mean)},       {"deviation", number(spread.deviation)},
          {"minimum", number(spread.minimum)}, {"lower", number(spread.lower)},
          {"median", number(spread.median)},   {"upper", number(spread.upper)},
          {"maximum", number(spread.maximum)}};
}

json study_json(const ReportStudy& study) {
  json groups = json::array();
  for (const ReportStudy::Group& group : study.groups) {
    json band = json::array();
    for (const ReportSpread& at : group.band)
      band.push_back(
          {number(at.minimum), number(at.lower), number(at.median), number(at.upper), number(at.maximum)});
    json bits = json::array();
    for (const auto& run : group.bits) bits.push_back(numbers(run));
    groups.push_back({{"strategy", group.strategy},
                      {"runs", group.runs},
                      {"value", spread_json(group.value)},
                      {"perplexity", spread_json(group.perplexity)},
                      {"divergence", spread_json(group.divergence)},
                      {"bitsPerWeight", number(group.bits_per_weight)},
                      {"fullPasses", number(group.full_passes)},
                      {"band", std::move(band)},
                      {"bits", std::move(bits)}});
  }
  json tests = json::array();
  for (const ReportStudy::Test& test : study.tests)
    tests.push_back({{"a", test.a},
                     {"b", test.b},
                     {"p", number(test.p)},
                     {"holm", number(test.holm)},
                     {"exact", number(test.exact)},
                     {"aBetter", number(test.a_better)}});
  json baselines = json::array();
  for (const ReportStudy::Baseline& baseline : study.baselines)
    baselines.push_back({{"name", baseline.name},
                         {"bitsPerWeight", number(baseline.bits_per_weight)},
                         {"bytes", baseline.bytes},
                         {"perplexity", number(baseline.perplexity)},
                         {"value", number(baseline.value)},
                         {"divergence", number(baseline.divergence)}});
  return {{"valueName", study.value_name},    {"largerIsBetter", study.larger_is_better},
          {"evaluations", study.evaluations}, {"groups", std::move(groups)},
          {"tests", std::move(tests)},        {"baselines", std::move(baselines)}};
}

json task_scores_json(const TaskScores& scores) {
  json tasks = json::array();
  for (const TaskScores::Task& task : scores.tasks)
    tasks.push_back({{"name", task.name},
                     {"items", task.items},
                     {"metric", task.acc_norm ? "acc_norm" : "acc"},
                     {"value", number(task.counted().value)},
                     {"standardError", number(task.counted().standard_error)}});
  return {{"model", scores.model},
          {"bytes", scores.bytes},
          {"bits", number(scores.bits)},
          {"data", scores.data},
          {"tasks", std::move(tasks)},
          {"average", number(scores.average.value)},
          {"standardError", number(scores.average.standard_error)}};
}

json linear_json(const ReportLinear& linear) {
  json result = {{"name", linear.name},
                 {"block", linear.block},
                 {"module", linear.module},
                 {"parameters", linear.parameters}};
  if (linear.statistics) {
    result["kurtosis"] = number(linear.statistics->kurtosis);
    json& percentiles = result["percentiles"] = json::array();
    for (const double value : linear.statistics->percentiles) percentiles.push_back(number(value));
  }
  return result;
}

json variable_json(const ReportVariable& variable) {
  json levels = json::array();
  for (const SpaceLevel& level : variable.levels)
    levels.push_back({level.choice, level.bytes, number(level.bits), number(level.error)});
  return {{"name", variable.name},
          {"linears", variable.linears},
          {"parameters", variable.parameters},
          {"levels", std::move(levels)}};
}

json written_json(const WrittenSteps& model) {
  json steps = json::array();
  for (const WrittenSteps::Step& step : model.steps)
    steps.push_back({{"name", step.name},
                     {"divergence", number(step.divergence)},
                     {"standardError", number(step.standard_error)},
                     {"perplexity", number(step.perplexity)},
                     {"agreement", number(step.agreement)}});
  return {{"model", model.model},
          {"effort", model.effort},
          {"bytes", model.bytes},
          {"bits", number(model.bits)},
          {"steps", std::move(steps)}};
}

json file_json(const ReportFile& file) {
  return {{"name", file.name},
          {"bytes", file.bytes},
          {"bits", number(file.bits)},
          {"mean", number(file.kl.mean)},
          {"standardError", number(file.kl.standard_error)},
          {"kl99", number(file.kl.quantile_99)},
          {"kl999", number(file.kl.quantile_99_9)},
          {"flips", number(file.flips)},
          {"perplexity", number(file.perplexity)},
          {"rival", file.rival ? json(*file.rival) : json(nullptr)},
          {"difference", number(file.difference)},
          {"differenceError", number(file.difference_error)}};
}

}  // namespace

json to_json(const ReportData& data, std::size_t most_digits) {
  json menu = json::array();
  for (const Scheme& scheme : data.menu) menu.push_back({{"name", to_string(scheme)}, {"bits", scheme.bits}});
  json linears = json::array();
  for (const ReportLinear& linear : data.linears) linears.push_back(linear_json(linear));
  json variables = json::array();
  for (const ReportVariable& variable : data.variables) variables.push_back(variable_json(variable));
  json searches = json::array();
  for (const ReportSearch& search : data.searches) searches.push_back(search_json(search));
  json sensitivities = json::array();
  for (const ReportSensitivity& one : data.sensitivities)
    sensitivities.push_back(
        {{"strategy", one.strategy}, {"values", numbers(one.values)}, {"threshold", number(one.threshold)}});
  json heldout = json::array();
  for (const ReportHeldout& one : data.heldout)
    heldout.push_back({{"label", one.label},
                       {"uniform", one.uniform},
                       {"bytes", one.bytes},
                       {"bits", number(one.bits)},
                       {"tokens", one.measurement.tokens},
                       {"kl", number(one.measurement.kl)},
                       {"jsd", number(one.measurement.jsd)},
                       {"loss", number(one.measurement.loss)},
                       {"agreement", number(one.measurement.agreement)},
                       {"standardError", number(one.standard_error)}});
  json written = json::array();
  for (const WrittenSteps& one : data.written) written.push_back(written_json(one));
  json tasks = json::array();
  for (const TaskScores& one : data.tasks) tasks.push_back(task_scores_json(one));
  json files = json::array();
  for (const ReportFile& one : data.files) files.push_back(file_json(one));
  return {{"model",
           {{"name", data.model.name},
            {"architecture", data.model.architecture},
            {"parameters", data.model.parameters},
            {"bytes", data.model.bytes},
            {"loss", number(data.model.loss)},
            {"heldoutLoss", number(data.model.heldout_loss)}}},
          {"pickCommand", data.pick_command},
          {"running", data.running},
          {"divergence", data.divergence == Divergence::kl ? "kl" : "jsd"},
          {"windows", data.windows},
          {"tokens", data.tokens},
          {"ideal", {number(data.ideal.size), number(data.ideal.divergence)}},
          {"reference", {number(data.reference.size), number(data.reference.divergence)}},
          {"menu", std::move(menu)},
          {"linears", std::move(linears)},
          {"variables", std::move(variables)},
          {"points", points_json(data, most_digits)},
          {"searches", std::move(searches)},
          {"front", data.front},
          {"hypervolume", number(data.hypervolume)},
          {"sensitivities", std::move(sensitivities)},
          {"heldout", std::move(heldout)},
          {"written", std::move(written)},
          {"tasks", std::move(tasks)},
          {"study", data.study ? study_json(*data.study) : json(nullptr)},
          {"files", std::move(files)}};
}

}  // namespace knapsaq
