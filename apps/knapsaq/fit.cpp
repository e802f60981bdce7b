#include <chrono>
#include <filesystem>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
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

void run(Options options) {
  start(options.common);
  if (!options.budget.given()) throw UsageError("give either --budget or --bits");
  while (options.output.size() > 1 && options.output.back() == '/') options.output.pop_back();
  if (options.run.folder.empty()) options.run.folder = options.output + ".run";
  if (options.report.empty())
    options.report = (std::filesystem::path(options.run.folder) / "report.html").string();
  refuse_existing(options.output, options.force);
  find_strategy(options.search.strategy);
  const std::filesystem::path page = std::filesystem::path(options.report).parent_path();
  const std::filesystem::path run_folder = options.run.folder;
  if (!page.empty() && page != run_folder && !std::filesystem::is_directory(page))
    throw UsageError(fmt::format("{}: there is no folder {} for it", options.report, page.string()));
  const auto begin = std::chrono::steady_clock::now();
  Budget budget;
  Run run = find_run(options.run, [&](const SearchSpace& space) {
    budget = parse_budget(options.budget, space);
    check_search(options.search, space, budget);
  });
  check_output(run, options.output);
  SearchReport report;
  {
    const std::unique_ptr<Evaluator> evaluator = run.evaluator(kSearchSet, progress());
    report = run_search(run, *evaluator, options.search, budget);
  }
  const Shipment shipment = ship(run, choose(run, budget, {}, progress()), {}, options.output, options.force);
  make_report(run, options.report);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.run.model},
                                   {"output", options.output},
                                   {"run", options.run.folder},
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
             in_shell(options.run.folder));
}

}  // namespace

void add_fit(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "fit", "All of it: quantize, search, compare with uniform, write the best model that fits");
  verb->add_option("model", options->run.model, "Model folder in Hugging Face layout, full precision")
      ->required();
  verb->add_option("-o,--output", options->output, "Folder to write")->required();
  add_budget_options(*verb, options->budget);
  verb->add_option("--run", options->run.folder,
                   "Folder of bank and archive, kept for other budgets; default: OUTPUT.run");
  verb->add_option("--report", options->report,
                   "HTML page about the run; default: report.html in the run's folder");
  add_search_options(*verb, options->search, true);
  verb->add_flag("--force", options->force, "Replace the output folder");
  add_run_options(*verb, options->run);
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq fit MODEL --budget 4.2MiB -o OUT");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
