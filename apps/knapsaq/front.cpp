#include "knapsaq/pipeline/front.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "result_json.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  FrontOptions front;
};

nlohmann::ordered_json json_of(const FrontSummary& found) {
  nlohmann::ordered_json reference = nullptr;
  if (found.reference)
    reference = {{"bits", found.reference->first}, {"divergence", found.reference->second}};
  return {{"evaluations", found.evaluations},
          {"full_passes", found.full_passes},
          {"hypervolume", found.hypervolume},
          {"reference_point", reference}};
}

nlohmann::ordered_json json_of(const FrontResult& result, const std::string& run) {
  nlohmann::ordered_json json = {{"run", run}, {"divergence", result.divergence}};
  json.update(json_of(result.all));
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const FrontResult::Point& one : result.points)
    points.push_back({{"bytes", one.bytes},
                      {"bits", one.bits},
                      {"divergence", one.divergence},
                      {"perplexity", one.perplexity},
                      {"agreement", one.agreement},
                      {"strategy", one.strategy},
                      {"allocation", allocation_json(one.allocation)}});
  json["points"] = points;
  nlohmann::ordered_json searches = nlohmann::ordered_json::array();
  for (const FrontResult::Search& search : result.searches) {
    nlohmann::ordered_json entry = {{"strategy", search.strategy},
                                    {"seed", search.seed},
                                    {"options", search.options},
                                    {"finished", search.finished}};
    entry.update(json_of(search.found));
    searches.push_back(entry);
  }
  json["searches"] = searches;
  return json;
}

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  const FrontResult result = knapsaq::front(environment, options.front);
  if (options.common.json) {
    print(json_of(result, options.front.run));
    return;
  }
  fmt::print("{:>8} {:>12} {:>12} {:>11} {:>9}  {:<8} {}\n", "bits", "bytes", result.divergence, "perplexity",
             "agrees", "found by", "linears");
  for (const FrontResult::Point& one : result.points)
    fmt::print("{:>8.4f} {:>12} {:>12.6f} {:>11.4f} {:>8.2f}%  {:<8} {}\n", one.bits, one.bytes,
               one.divergence, one.perplexity, 100 * one.agreement, one.strategy, in_words(one.counts));
  fmt::print("\n{:<10} {:>6} {:>12} {:>12} {:>12}  {}\n", "search", "seed", "evaluations", "full passes",
             "hypervolume", "");
  for (const FrontResult::Search& search : result.searches)
    fmt::print("{:<10} {:>6} {:>12} {:>12.1f} {:>12.5f}  {}\n", search.strategy, search.seed,
               search.found.evaluations, search.found.full_passes, search.found.hypervolume,
               search.finished ? "" : "not finished");
}

}  // namespace

void add_front(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("front", "Show what the searches of a run have found, also while they run");
  verb.option("run", options->front.run, "Folder of the run").required();
  verb.option("--strategy", options->front.strategy, "Only what searches with this strategy found");
  verb.option("--seed", options->front.seed, "Only what searches with this seed found").range(0);
  verb.option("--model", options->front.model, "Where the model is now, if it was moved");
  add_common(verb, options->common);
  verb.example("knapsaq front RUN --json");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
