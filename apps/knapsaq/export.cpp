#include <memory>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/error.h"
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

nlohmann::ordered_json json_of(const ExportModelResult::Recipe& recipe, const Options& options) {
  return {{"file", options.exporting.recipe},
          {"matrices", recipe.matrices},
          {"file_type", recipe.file_type},
          {"needs_imatrix", recipe.needs_imatrix},
          {"command", recipe.command}};
}

void run(const Options& given) {
  Options options = given;
  const bool writes = !options.exporting.output.empty();
  if (options.exporting.format.empty()) {
    if (writes) throw UsageError("--format is required to write a model");
    options.exporting.format = "gguf";  // what a recipe is of
  }
  static_cast<void>(writer(options.exporting.format));  // an unknown one is said before the model is opened
  Environment environment(environment_options(options.common));
  Session session(environment, options.model);
  const ExportModelResult result = export_model(session, options.exporting);

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.model}};
    if (writes)
      json.update({{"format", result.format},
                   {"output", options.exporting.output},
                   {"bytes", result.bytes},
                   {"changes", result.changes},
                   {"notes", result.notes}});
    if (result.recipe) json["recipe"] = json_of(*result.recipe, options);
    print(json);
    return;
  }
  for (const std::string& change : result.changes) fmt::print("changed: {}\n", change);
  for (const std::string& note : result.notes) fmt::print("note: {}\n", note);
  if (writes) {
    fmt::print("{}: {}, {} ({} bytes), ", options.exporting.output, result.format, format_bytes(result.bytes),
               result.bytes);
    if (result.changes.empty())
      fmt::print("every linear carried exactly\n");
    else
      fmt::print("{} linears changed\n", result.changes.size());
  }
  if (!result.recipe) return;
  fmt::print("{}: types of {} matrices; llama.cpp makes them of the full-precision model as GGUF by\n  {}\n",
             options.exporting.recipe, result.recipe->matrices, result.recipe->command);
  if (result.recipe->needs_imatrix)
    fmt::print("note: some of the types need an importance matrix (llama-imatrix)\n");
}

}  // namespace

void add_export(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("export", "Write a quantized model in a format that others load");
  verb.option("model", options->model, "Model folder that `knapsaq quantize` wrote, or a GGUF file")
      .required();
  verb.option("--format", options->exporting.format, fmt::format("{}", fmt::join(export_formats(), ", ")));
  verb.option("-o,--output", options->exporting.output, "File or folder to write").not_empty();
  verb.option(
          "--recipe", options->exporting.recipe,
          "File for llama-quantize --tensor-type-file: the same types for every tensor; needs no --output")
      .not_empty();
  verb.flag("--requantize", options->exporting.requantize,
            "Quantize linears once more where the format cannot hold them exactly, and say which");
  verb.flag("--force", options->exporting.force, "Replace the output if it exists");
  add_common(verb, options->common);
  verb.example(
      fmt::format("knapsaq export QMODEL --format {} -o OUT\n  knapsaq export OUT.gguf --recipe types.txt",
                  export_formats().front()));
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
