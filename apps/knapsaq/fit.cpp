#include "knapsaq/pipeline/fit.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "budget_flags.h"
#include "command.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "result_json.h"
#include "run_flags.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  RunFlags run;
  BudgetFlags budget;
  FitOptions fit;
};

void run(const Options& options) {
  FitOptions fit = options.fit;
  fit.budget = budget_of(options.budget);
  fit.of = run_options(options.run);
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const FitResult result = knapsaq::fit(session, fit);

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.model},
                                   {"output", fit.output},
                                   {"run", result.run},
                                   {"report", result.report},
                                   {"budget_bytes", nullptr},
                                   {"budget_bits", nullptr},
                                   {"strategy", fit.search.strategy},
                                   {"evaluations", result.search.evaluations},
                                   {"full_passes", result.search.full_passes},
                                   {"seconds", result.seconds}};
    if (result.budget_bytes)
      json["budget_bytes"] = *result.budget_bytes;
    else
      json["budget_bits"] = fit.budget.bits;
    json.update(json_of(result.model));
    print(json);
    return;
  }
  print_summary(result.model, fit.output);
  fmt::print("{} evaluations ({:.1f} full passes), {}; report: {}\n", result.search.evaluations,
             result.search.full_passes, format_seconds(result.seconds), result.report);
  fmt::print(
      "another size: the same command with another --budget and --run {0}, or knapsaq pick {0} --budget SIZE "
      "-o OUT\n",
      in_shell(result.run));
}

}  // namespace

void add_fit(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("fit", "All of it: quantize, search, compare with uniform, write the best model that fits");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file, full precision")
      .required();
  verb.option("-o,--output", options->fit.output, "Folder to write; with --for llama.cpp a GGUF file")
      .required();
  add_budget_flags(verb, options->budget);
  verb.option("--run", options->fit.run,
              "Folder of bank and archive, kept for other budgets; default: OUTPUT.run")
      .not_empty();
  verb.option("--report", options->fit.report,
              "HTML page about the run; default: report.html in the run's folder")
      .not_empty();
  add_strategy_flags(verb, options->fit.search);
  verb.option(
          "--effort", options->fit.effort,
          "What is spent after the search on the same bytes: quick (nothing), normal (codes that correct the "
          "errors before them, then tuning), best (of three allocations, three times the tuning)")
      .one_of({"quick", "normal", "best"})
      .show_default();
  verb.flag("--force", options->fit.force, "Replace the output folder");
  add_run_flags(verb, options->run);
  add_watch_flag(verb, options->common);
  add_common(verb, options->common);
  verb.example("knapsaq fit MODEL --budget 4.2MiB -o OUT");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
