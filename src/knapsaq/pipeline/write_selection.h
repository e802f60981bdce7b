#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/pipeline/listener.h"
#include "knapsaq/pipeline/written_model.h"
#include "knapsaq/search/selection.h"

namespace knapsaq {

/// Where the result of a run for this engine ("": in Knapsaq's own format) is written: a file or a folder.
std::filesystem::path plan_result(OutputPlan& plan, const std::string& engine, const std::string& output,
                                  bool force);
/// Throws UsageError if a bank whose codes are to be written lacks a scheme of the run's bank, InputError if
/// it is of another model: before anything is measured. `codes` empty: nothing to check.
void check_codes(const Run& run, const std::string& codes);

/// What write_point() wrote.
struct WrittenPoint {
  std::uint64_t bytes = 0;
  double bits =
      0;  ///< average per quantized weight, metadata included; 0 where a folder was only carried over
  std::vector<std::string> notes;
};
/// Writes the model of a point in the format of the run's engine. `codes`: a bank with the same bits and
/// groups by another method, whose codes are written and not the run's; empty: none. Throws as
/// write_quantized() does, UsageError if that bank lacks a scheme.
WrittenPoint write_point(const Run& run, const Point& point, const std::string& codes,
                         const std::filesystem::path& output, bool force, Progress& progress);
/// The same for what was chosen, with everything that is known of it.
WrittenModel write_selection(const Run& run, const Selection& selection, const std::string& codes,
                             const std::filesystem::path& output, bool force, Progress& progress);

/// The linears of a point, quantized again with corrections (bank/corrected_codes.h) by the run's methods;
/// embedding and head are those of the run's bank. `outputs`: statistics of the gradients by the linears'
/// outputs, null if there are none (CorrectionRecipe::outputs). Finished linears are kept in
/// RUN/corrected/<point and samples>, so a call with the same arguments goes on after a kill, and makes
/// nothing anew once it is done. In memory: correct_codes(). The run must outlive the result. Throws as
/// correct_codes() does.
std::unique_ptr<const MatrixSource> correct_point(const Run& run, const Point& point, const Samples& samples,
                                                  const InputSource* outputs, Progress& progress);
/// Removes what correct_point() keeps of all points.
void remove_corrections(const Run& run);

/// The schemes of a point, one for each matrix of the space.
std::vector<MatrixScheme> allocation_of(const Run& run, const Point& point);
/// What is told of a candidate.
JudgedModel judged_model(const Candidate& one);
/// Writes a folder in Knapsaq's own format, of the run's model, in the format of the run's engine.
WrittenPoint write_folder(const Run& run, const std::filesystem::path& folder,
                          const std::filesystem::path& output, bool force, Progress& progress);
/// Everything that is known of a selection that was written.
WrittenModel describe(const Run& run, const Selection& selection, WrittenPoint written,
                      const std::filesystem::path& output);

}  // namespace knapsaq
