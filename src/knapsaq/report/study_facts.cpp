#include "knapsaq/report/study_facts.h"

#include <algorithm>
#include <limits>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// More questions or runs than any study has: a file with more is not one of ours.
constexpr std::int64_t kMost = 1'000'000;

/// NaN for null.
double number(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

ReportSpread spread(const json& value) {
  return {.mean = number(value.at("mean")),
          .deviation = number(value.at("deviation")),
          .minimum = number(value.at("minimum")),
          .lower = number(value.at("lower")),
          .median = number(value.at("median")),
          .upper = number(value.at("upper")),
          .maximum = number(value.at("maximum"))};
}

/// Values times -1: what was least is now the most.
ReportSpread negated(const ReportSpread& one) {
  return {.mean = -one.mean,
          .deviation = one.deviation,
          .minimum = -one.maximum,
          .lower = -one.upper,
          .median = -one.median,
          .upper = -one.lower,
          .maximum = -one.minimum};
}

/// The curves' spreads, one for each question, from one array for each of their numbers.
std::vector<ReportSpread> band(const json& value, std::size_t evaluations) {
  // Before room is made for so many.
  if (!value.at("mean").is_array() || value.at("mean").size() < evaluations)
    throw InputError("a curve has fewer points than there are evaluations");
  std::vector<ReportSpread> result(evaluations);
  const auto fill = [&](const char* name, double ReportSpread::*member) {
    const json& column = value.at(name);
    for (std::size_t i = 0; i < evaluations; ++i) result[i].*member = number(column.at(i));
  };
  fill("mean", &ReportSpread::mean);
  fill("deviation", &ReportSpread::deviation);
  fill("minimum", &ReportSpread::minimum);
  fill("lower", &ReportSpread::lower);
  fill("median", &ReportSpread::median);
  fill("upper", &ReportSpread::upper);
  fill("maximum", &ReportSpread::maximum);
  return result;
}

ReportStudy::Group group(const json& strategy, std::size_t evaluations, bool negative,
                         std::size_t variables) {
  ReportStudy::Group result;
  result.strategy = strategy.at("name").get<std::string>();
  const json& runs = strategy.at("runs");
  result.runs = runs.size();
  const json& summary = strategy.at("summary");
  result.value = spread(summary.at("goal"));
  result.perplexity = spread(summary.at("perplexity"));
  result.divergence = spread(summary.at("divergence"));
  result.full_passes = number(summary.at("full_passes").at("mean"));
  result.band = band(strategy.at("band"), evaluations);
  if (negative) {
    result.value = negated(result.value);
    for (ReportSpread& at : result.band) at = negated(at);
  }
  for (const json& run : runs) {
    result.bits_per_weight += number(run.at("bits_per_weight")) / static_cast<double>(runs.size());
    std::vector<double> bits;
    for (const json& value : run.at("bits")) bits.push_back(number(value));
    if (bits.size() == variables) result.bits.push_back(std::move(bits));
  }
  return result;
}

/// Names of strategies as the tests tell them apart: "ga#1" for one that appears twice.
std::vector<std::string> test_names(const std::vector<ReportStudy::Group>& groups) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const bool once = std::ranges::count(groups, groups[i].strategy, &ReportStudy::Group::strategy) == 1;
    names.push_back(once ? groups[i].strategy : fmt::format("{}#{}", groups[i].strategy, i));
  }
  return names;
}

ReportStudy read(const json& value, std::size_t variables) {
  if (value.at("format") != "knapsaq-study" || value.at("version") != 1)
    throw InputError("this is not a study that this version of Knapsaq reads");
  ReportStudy study;
  const json& goal = value.at("goal");
  study.value_name = goal.at("label").get<std::string>();
  study.larger_is_better = goal.at("sign").get<double>() < 0;
  study.evaluations = whole_number(value.at("evaluations"), "evaluations", 0, kMost);
  for (const json& strategy : value.at("strategies"))
    study.groups.push_back(
        group(strategy, static_cast<std::size_t>(study.evaluations), study.larger_is_better, variables));

  const std::vector<std::string> names = test_names(study.groups);
  for (std::size_t i = 0; i < names.size(); ++i) study.groups[i].strategy = names[i];
  const auto index = [&](const json& name) {
    const auto found = std::ranges::find(names, name.get<std::string>());
    if (found == names.end()) throw InputError("a test is of a strategy that the study does not have");
    return static_cast<std::size_t>(found - names.begin());
  };
  for (const json& test : value.at("tests"))
    study.tests.push_back({.a = index(test.at("a")),
                           .b = index(test.at("b")),
                           .p = number(test.at("rank_sum").at("p")),
                           .holm = number(test.at("holm")),
                           .exact = number(test.at("mann_whitney").at("p")),
                           .a_better = number(test.at("a_better"))});
  const bool paper = goal.at("name") == "paper";
  for (const json& baseline : value.at("baselines")) {
    const double divergence = number(baseline.at("divergence"));
    study.baselines.push_back(
        {.name = baseline.at("name").get<std::string>(),
         .bits_per_weight = number(baseline.at("bits_per_weight")),
         .bytes = static_cast<std::uint64_t>(
             whole_number(baseline.at("bytes"), "bytes", 0, std::numeric_limits<std::int64_t>::max())),
         .perplexity = number(baseline.at("perplexity")),
         .value = paper ? number(baseline.at("fitness")) : divergence,
         .divergence = divergence});
  }
  return study;
}

}  // namespace

ReportStudy parse_study(std::string_view text, std::size_t variables) {
  try {
    return read(parse_json(text), variables);
  } catch (const json::exception& error) {
    throw InputError(fmt::format("study: {}", json_reason(error)));
  } catch (const InputError& error) {
    throw InputError(fmt::format("study: {}", error.what()));
  }
}

}  // namespace knapsaq
