#include "knapsaq/pipeline/report.h"

#include "knapsaq/base/output_plan.h"
#include "knapsaq/pipeline/make_report.h"
#include "knapsaq/report/html_page.h"

namespace knapsaq {

std::filesystem::path report(Environment& environment, const ReportOptions& options) {
  const ExecutionScope scope(environment.execution());
  OutputPlan plan;
  plan.allows(std::filesystem::path(options.run) / kReportName);
  plan.reads("the run", options.run);
  plan.reads("the model", options.model);
  std::filesystem::path output = plan.file(options.output, true, is_html_page);
  const Run run = Run::open(options.run, Access::read, options.model);
  plan.reads("the model", run.model_folder());
  plan.reads("the bank", run.bank().folder());
  make_report(run, output);
  return output;
}

}  // namespace knapsaq
