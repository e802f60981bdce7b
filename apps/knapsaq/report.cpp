#include "knapsaq/pipeline/report.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  ReportOptions report;
};

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  knapsaq::report(environment, options.report);
  if (options.common.json) {
    print({{"run", options.report.run}, {"output", options.report.output}});
    return;
  }
  fmt::print("{}: open it in a browser; it needs no network\n", options.report.output);
}

}  // namespace

void add_report(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("report", "Write an HTML page about a run, also while it runs");
  verb.option("run", options->report.run, "Folder of the run").required();
  verb.option("-o,--output", options->report.output, "File to write; an older one is replaced").required();
  verb.option("--model", options->report.model, "Where the model is now, if it was moved");
  add_common(verb, options->common);
  verb.example("knapsaq report RUN -o report.html");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
