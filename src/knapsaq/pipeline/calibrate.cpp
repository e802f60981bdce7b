#include "knapsaq/pipeline/calibrate.h"

#include <filesystem>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/imatrix.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/stopwatch.h"

namespace knapsaq {
namespace {

/// That a model has no imatrix is said before it is calibrated, not after it.
void check_imatrix(const Session& session, const CalibrateOptions& options) {
  if (options.imatrix.empty()) return;
  const GgufNames names(session.config());
  for (const Matrix& matrix : matrices(session.config()))
    if (!names.module(matrix.name))
      throw UsageError(fmt::format(
          "{}: GGUF has no name for the linear {}, so no imatrix can hold it: leave --imatrix out",
          session.path().string(), matrix.name));
}

}  // namespace

CalibrateResult calibrate(Session& session, const CalibrateOptions& options) {
  const ExecutionScope scope(session.execution());
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan_texts(plan, options.calibration.text);
  const std::filesystem::path folder = plan.workspace(options.output);
  check_calibration_place(folder);
  std::filesystem::path imatrix;
  if (!options.imatrix.empty()) imatrix = plan.file(options.imatrix, options.force, is_own_gguf);
  const Stopwatch watch;
  check_shapes(session.checkpoint(), session.config());
  check_imatrix(session, options);
  // Text that is too short is refused before the model is read.
  const Samples samples = calibration_samples(session, options.calibration);
  const Calibration calibration =
      make_calibration(session, samples, precision_of(options.calibration), folder, options.force,
                       gradient_windows_of(options.calibration, samples.options));
  for (const std::string& note : calibration.notes()) session.listener().note(note);
  if (!options.imatrix.empty())
    write_imatrix(calibration, session.config(),
                  {.datasets = uses_self(options.calibration) ? std::vector<std::string>{samples.text}
                                                              : options.calibration.text,
                   .chunks = static_cast<std::uint32_t>(samples.options.samples),
                   .chunk_size = static_cast<std::uint32_t>(samples.options.window)},
                  imatrix);
  return {.fingerprint = session.fingerprint(),
          .text = samples.text,
          .identity = calibration.identity(),
          .samples = samples.options,
          .tokens = std::ssize(samples.tokens),
          .seconds = watch.seconds()};
}

}  // namespace knapsaq
