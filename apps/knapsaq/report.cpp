#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/report/html_page.h"
#include "make_report.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string folder;
  std::string model;
  std::string output;
};

void run(const Options& options) {
  start(options.common);
  OutputPlan plan;
  plan.allows(std::filesystem::path(options.folder) / kReportName);
  plan.reads("the run", options.folder);
  plan.reads("the model", options.model);
  const std::filesystem::path output = plan.file(options.output, true, is_html_page);
  const Run run = Run::open(options.folder, Access::read, options.model);
  plan.reads("the model", run.model_folder());
  plan.reads("the bank", run.bank().folder());
  make_report(run, output);
  if (options.common.json) {
    print({{"run", options.folder}, {"output", options.output}});
    return;
  }
  fmt::print("{}: open it in a browser; it needs no network\n", options.output);
}

}  // namespace

void add_report(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("report", "Write an HTML page about a run, also while it runs");
  verb.option("run", options->folder, "Folder of the run").required();
  verb.option("-o,--output", options->output, "File to write; an older one is replaced").required();
  verb.option("--model", options->model, "Where the model is now, if it was moved");
  add_common(verb, options->common);
  verb.example("knapsaq report RUN -o report.html");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
