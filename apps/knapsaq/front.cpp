#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "run_view.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string folder;
  std::string model;
  std::string strategy;
  std::optional<std::uint64_t> seed;
};

/// Ids of the searches that the options name.
std::vector<std::int64_t> named_searches(const Options& options, const std::vector<SearchRecord>& all) {
  std::vector<std::int64_t> ids;
  for (const SearchRecord& record : all)
    if ((options.strategy.empty() || record.strategy == options.strategy) &&
        (!options.seed || record.seed == *options.seed))
      ids.push_back(record.id);
  if (ids.empty())
    throw UsageError(fmt::format("{}: has no such search; `knapsaq front {}` lists those there are",
                                 options.folder, options.folder));
  return ids;
}

nlohmann::ordered_json json_of(const RunView& view) {
  nlohmann::ordered_json reference = nullptr;
  if (view.reference())
    reference = {{"bits", view.reference()->size}, {"divergence", view.reference()->divergence}};
  return {{"evaluations", view.evaluations()},
          {"full_passes", view.full_passes()},
          {"hypervolume", view.hypervolume()},
          {"reference_point", reference}};
}

void run(const Options& options) {
  start(options.common);
  const Run run = Run::open(options.folder, Access::read, options.model);
  const Divergence divergence = run.settings().divergence;
  const std::vector<SearchRecord> records = run.archive().searches();
  const std::vector<std::int64_t> ids = named_searches(options, records);
  const RunView view(run, ids);

  if (options.common.json) {
    nlohmann::ordered_json json = {{"run", options.folder}, {"divergence", name_of(divergence)}};
    json.update(json_of(view));
    nlohmann::ordered_json points = nlohmann::ordered_json::array();
    for (const RunView::FrontPoint& one : view.front())
      points.push_back({{"bytes", one.bytes},
                        {"bits", one.bits},
                        {"divergence", one.measurement.value(divergence)},
                        {"perplexity", one.measurement.perplexity()},
                        {"agreement", one.measurement.agreement},
                        {"strategy", one.strategy},
                        {"allocation", allocation_json(run.space(), one.point)}});
    json["points"] = points;
    nlohmann::ordered_json searches = nlohmann::ordered_json::array();
    for (const SearchRecord& record : records) {
      nlohmann::ordered_json entry = {{"strategy", record.strategy},
                                      {"seed", record.seed},
                                      {"options", record.options},
                                      {"finished", record.finished}};
      entry.update(json_of(RunView(run, {record.id})));
      searches.push_back(entry);
    }
    json["searches"] = searches;
    print(json);
    return;
  }

  fmt::print("{:>8} {:>12} {:>12} {:>11} {:>9}  {:<8} {}\n", "bits", "bytes", name_of(divergence),
             "perplexity", "agrees", "found by", "linears");
  for (const RunView::FrontPoint& one : view.front())
    fmt::print("{:>8.4f} {:>12} {:>12.6f} {:>11.4f} {:>8.2f}%  {:<8} {}\n", one.bits, one.bytes,
               one.measurement.value(divergence), one.measurement.perplexity(),
               100 * one.measurement.agreement, one.strategy, scheme_counts(run.space(), one.point));
  fmt::print("\n{:<10} {:>6} {:>12} {:>12} {:>12}  {}\n", "search", "seed", "evaluations", "full passes",
             "hypervolume", "");
  for (const SearchRecord& record : records) {
    const RunView own(run, {record.id});
    fmt::print("{:<10} {:>6} {:>12} {:>12.1f} {:>12.5f}  {}\n", record.strategy, record.seed,
               own.evaluations(), own.full_passes(), own.hypervolume(),
               record.finished ? "" : "not finished");
  }
}

}  // namespace

void add_front(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("front", "Show what the searches of a run have found, also while they run");
  verb.option("run", options->folder, "Folder of the run").required();
  verb.option("--strategy", options->strategy, "Only what searches with this strategy found");
  verb.option("--seed", options->seed, "Only what searches with this seed found").range(0);
  verb.option("--model", options->model, "Where the model is now, if it was moved");
  add_common(verb, options->common);
  verb.example("knapsaq front RUN --json");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
