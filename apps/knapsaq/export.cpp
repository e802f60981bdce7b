#include <memory>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/pipeline/export_model.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  ExportModelOptions exporting;
};

void run(const Options& options) {
  static_cast<void>(writer(options.exporting.format));  // an unknown one is said before the model is opened
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Accepts::folder);
  const ExportModelResult result = export_model(session, options.exporting);

  if (options.common.json) {
    print({{"model", options.model},
           {"format", result.format},
           {"output", options.exporting.output},
           {"bytes", result.bytes},
           {"changes", result.changes},
           {"notes", result.notes}});
    return;
  }
  for (const std::string& change : result.changes) fmt::print("changed: {}\n", change);
  for (const std::string& note : result.notes) fmt::print("note: {}\n", note);
  fmt::print("{}: {}, {} ({} bytes), ", options.exporting.output, result.format, format_bytes(result.bytes),
             result.bytes);
  if (result.changes.empty())
    fmt::print("every linear carried exactly\n");
  else
    fmt::print("{} linears changed\n", result.changes.size());
}

}  // namespace

void add_export(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("export", "Write a quantized model in a format that others load");
  verb.option("model", options->model, "Model folder that `knapsaq quantize` wrote").required();
  verb.option("--format", options->exporting.format, fmt::format("{}", fmt::join(export_formats(), ", ")))
      .required();
  verb.option("-o,--output", options->exporting.output, "File or folder to write").required();
  verb.flag("--requantize", options->exporting.requantize,
            "Quantize linears once more where the format cannot hold them exactly, and say which");
  verb.flag("--force", options->exporting.force, "Replace the output if it exists");
  add_common(verb, options->common);
  verb.example(fmt::format("knapsaq export QMODEL --format {} -o OUT", export_formats().front()));
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
