#include "knapsaq/pipeline/export_model.h"

#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/gguf/recipe.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

ExportModelResult::Recipe describe(const std::vector<TensorType>& types, const fs::path& path,
                                   const std::string& as_given) {
  ExportModelResult::Recipe recipe{.path = path,
                                   .matrices = types.size(),
                                   .file_type = file_type_of(types),
                                   .needs_imatrix = needs_imatrix(types),
                                   .command = {}};
  recipe.command =
      fmt::format("llama-quantize --tensor-type-file {} {}F16.gguf OUT.gguf {}", in_shell(as_given),
                  recipe.needs_imatrix ? "--imatrix IMATRIX.gguf " : "", recipe.file_type);
  return recipe;
}

}  // namespace

ExportModelResult export_model(Session& session, const ExportModelOptions& options) {
  const ExecutionScope scope(session.execution());
  if (options.output.empty() && options.recipe.empty())
    throw UsageError("there is nothing to write: give --output, --recipe or both");
  const Writer& format = writer(options.format);
  if (!options.recipe.empty() && options.format != "gguf")
    throw UsageError("a recipe is for llama.cpp: give --format gguf with --recipe");
  OutputPlan plan;
  plan.reads("the model", session.path());
  fs::path output;
  fs::path recipe;
  if (!options.output.empty())
    output = format.makes_file() ? plan.file(options.output, options.force, is_own_gguf)
                                 : plan.folder(options.output, options.force);
  if (!options.recipe.empty()) recipe = plan.file(options.recipe, options.force, is_own_recipe);
  check_shapes(session.checkpoint(), session.config());

  ExportModelResult result;
  result.path = output;
  result.format = format.name();
  std::vector<TensorType> types;
  if (!recipe.empty()) {
    types = gguf_types(session.checkpoint(), session.config(), options.requantize);
    result.recipe = describe(types, recipe, options.recipe);
  }
  if (!output.empty()) {
    ExportOptions how;
    how.requantize = options.requantize;
    how.replace = options.force;
    ExportReport report =
        format.write(session.checkpoint(), session.config(), output, how, session.listener());
    result.bytes = report.bytes;
    result.changes = std::move(report.changes);
    result.notes = std::move(report.notes);
  }
  if (!recipe.empty()) write_file(recipe, recipe_of(types));
  return result;
}

}  // namespace knapsaq
