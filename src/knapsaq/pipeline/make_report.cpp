#include "knapsaq/pipeline/make_report.h"

#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/report/collect_report.h"
#include "knapsaq/report/html_page.h"
#include "knapsaq/report/study_facts.h"
#include "knapsaq/report/study_report.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// The folder's own name, also of "models/llama/".
std::string name_of_model(const fs::path& folder) {
  const fs::path clean = fs::absolute(folder).lexically_normal();
  return (clean.has_filename() ? clean : clean.parent_path()).filename().string();
}

}  // namespace

ReportData report_of(const Run& run) { return report_of(run, run.bank().table()); }

ReportData report_of(const Run& run, const ErrorTable& table) {
  ReportSources sources;
  sources.archive = &run.archive();
  sources.space = &run.space();
  sources.table = &table;
  sources.divergence = run.settings().divergence;
  const TokenSet& tokens = run.settings().search;
  sources.windows = tokens.windows();
  sources.tokens = tokens.windows() * (tokens.length - 1);
  sources.model.name = name_of_model(run.model_folder());
  sources.model.architecture = run.config().architecture;
  sources.model.parameters = parameters(run.config());
  sources.model.bytes = run.checkpoint().tensor_bytes();
  sources.model.loss = run.reference_loss(kSearchSet);
  sources.model.heldout_loss = run.reference_loss(kHeldOutSet);
  sources.run = run.folder().string();
  const fs::path study = run.folder() / kStudyName;
  if (fs::exists(study)) {
    try {
      sources.study = parse_study(read_file(study), run.space().variables.size());
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", study.string(), error.what()));
    }
  }
  sources.written = read_written_steps(run.folder());
  sources.tasks = read_task_scores(run.folder());
  return collect_report(std::move(sources));
}

void make_report(const Run& run, const fs::path& output) { write_html(report_of(run), output); }

}  // namespace knapsaq
