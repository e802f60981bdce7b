#include <memory>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string format;
  std::string output;
  bool requantize = false;
  bool force = false;
};

void run(const Options& options) {
  start(options.common);
  const Writer& format = writer(options.format);
  OutputPlan plan;
  plan.reads("the model", options.model);
  const std::filesystem::path output = format.makes_file()
                                           ? plan.file(options.output, options.force, is_own_gguf)
                                           : plan.folder(options.output, options.force);
  const Checkpoint checkpoint = Checkpoint::open_folder(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  ExportOptions how;
  how.requantize = options.requantize;
  how.replace = options.force;
  const ExportReport report = format.write(checkpoint, config, output, how, progress());

  if (options.common.json) {
    print({{"model", options.model},
           {"format", format.name()},
           {"output", options.output},
           {"bytes", report.bytes},
           {"changes", report.changes},
           {"notes", report.notes}});
    return;
  }
  for (const std::string& change : report.changes) fmt::print("changed: {}\n", change);
  for (const std::string& note : report.notes) fmt::print("note: {}\n", note);
  fmt::print("{}: {}, {} ({} bytes), ", options.output, format.name(), format_bytes(report.bytes),
             report.bytes);
  if (report.changes.empty())
    fmt::print("every linear carried exactly\n");
  else
    fmt::print("{} linears changed\n", report.changes.size());
}

}  // namespace

void add_export(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("export", "Write a quantized model in a format that others load");
  verb.option("model", options->model, "Model folder that `knapsaq quantize` wrote").required();
  verb.option("--format", options->format, fmt::format("{}", fmt::join(export_formats(), ", "))).required();
  verb.option("-o,--output", options->output, "File or folder to write").required();
  verb.flag("--requantize", options->requantize,
            "Quantize linears once more where the format cannot hold them exactly, and say which");
  verb.flag("--force", options->force, "Replace the output if it exists");
  add_common(verb, options->common);
  verb.example(fmt::format("knapsaq export QMODEL --format {} -o OUT", export_formats().front()));
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
