#include "knapsaq/pipeline/export_model.h"

#include "knapsaq/base/output_plan.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {

ExportModelResult export_model(Session& session, const ExportModelOptions& options) {
  const ExecutionScope scope(session.execution());
  const Writer& format = writer(options.format);
  OutputPlan plan;
  plan.reads("the model", session.path());
  const std::filesystem::path output = format.makes_file()
                                           ? plan.file(options.output, options.force, is_own_gguf)
                                           : plan.folder(options.output, options.force);
  check_shapes(session.checkpoint(), session.config());
  ExportOptions how;
  how.requantize = options.requantize;
  how.replace = options.force;
  ExportReport report = format.write(session.checkpoint(), session.config(), output, how, session.listener());
  return {output, std::string(format.name()), report.bytes, std::move(report.changes),
          std::move(report.notes)};
}

}  // namespace knapsaq
