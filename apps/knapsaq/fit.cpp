#include <chrono>
#include <filesystem>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/report/html_page.h"
#include "make_report.h"
#include "run_options.h"
#include "shipping.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string output;
  std::string report;
  RunOptions run;
  BudgetOptions budget;
  SearchOptions search;
  bool force = false;
};

/// Canonical.
struct Outputs {
  std::filesystem::path model;
  std::filesystem::path report;
};

/// Fills in what was left out, too.
Outputs plan_outputs(OutputPlan& plan, Options& options) {
  Outputs outputs;
  plan.reads("the model", options.run.model);
  outputs.model = plan_result(plan, options.run.engine, options.output, options.force);
  if (options.run.run.empty()) {
    std::string name = options.output;
    while (name.ends_with('/')) name.pop_back();
    options.run.run = (name.ends_with('.') ? outputs.model.string() : name) + ".run";
  }
  if (options.report.empty())
    options.report = (std::filesystem::path(options.run.run) / kReportName).string();
  plan.allows(std::filesystem::path(options.run.run) / kReportName);
  plan_run(plan, options.run);
  outputs.report = plan.file(options.report, true, is_html_page);
  return outputs;
}

void run(Options options) {
  start(options.common);
  if (!options.budget.given()) throw UsageError("give one of --budget, --bpw and --bits");
  find_strategy(options.search.strategy);
  OutputPlan plan;
  const Outputs outputs = plan_outputs(plan, options);
  const auto begin = std::chrono::steady_clock::now();
  Budget budget;
  options.run.keep_ends = options.budget.bits > 0;
  Run run = find_run(options.run, [&](const SearchSpace& space, std::int64_t parameters) {
    budget = parse_budget(options.budget, space, parameters);
    check_search(options.search, space, budget);
  });
  plan.reads("the bank", run.bank().folder());
  SearchReport report;
  {
    const std::unique_ptr<Evaluator> evaluator = run.evaluator(kSearchSet, progress());
    report = run_search(run, *evaluator, options.search, budget);
  }
  const Shipment shipment = ship(run, choose(run, budget, {}, progress()), {}, outputs.model, options.force);
  make_report(run, outputs.report);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.run.model},
                                   {"output", options.output},
                                   {"run", options.run.run},
                                   {"report", options.report},
                                   {"budget_bytes", nullptr},
                                   {"budget_bits", nullptr},
                                   {"strategy", options.search.strategy},
                                   {"evaluations", report.evaluations},
                                   {"full_passes", report.full_passes},
                                   {"seconds", seconds}};
    if (budget.of == Budget::Of::files) json["budget_bytes"] = budget.bytes;
    if (budget.of == Budget::Of::linears) json["budget_bits"] = options.budget.bits;
    json.update(json_of(shipment, run));
    print(json);
    return;
  }
  print_summary(shipment, run, options.output);
  fmt::print("{} evaluations ({:.1f} full passes), {}; report: {}\n", report.evaluations, report.full_passes,
             format_seconds(seconds), options.report);
  fmt::print("other sizes from the same run: knapsaq pick {} --budget SIZE -o OUT\n",
             in_shell(options.run.run));
}

}  // namespace

void add_fit(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("fit", "All of it: quantize, search, compare with uniform, write the best model that fits");
  verb.option("model", options->run.model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("-o,--output", options->output, "Folder to write; with --for llama.cpp a GGUF file").required();
  add_budget_options(verb, options->budget);
  verb.option("--run", options->run.run,
              "Folder of bank and archive, kept for other budgets; default: OUTPUT.run")
      .not_empty();
  verb.option("--report", options->report,
              "HTML page about the run; default: report.html in the run's folder")
      .not_empty();
  add_search_options(verb, options->search, true);
  verb.flag("--force", options->force, "Replace the output folder");
  add_run_options(verb, options->run);
  add_common(verb, options->common);
  verb.example("knapsaq fit MODEL --budget 4.2MiB -o OUT");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
