#pragma once

#include <span>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/model/loaded_decoder.h"
#include "knapsaq/pipeline/session.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/run.h"

namespace knapsaq {

/// Measures models on a run's held-out tokens that are not points of its space: other codes, other scales.
/// The numbers are those that the run's evaluators would find. In memory: one decoder, and the inputs of the
/// full model's head at these tokens.
class HeldOutJudge {
 public:
  /// Runs the full-precision model, which the session gives, over the tokens. Both must outlive this.
  HeldOutJudge(Session& session, const Run& run);

  /// The model of an allocation with the matrices of `source`.
  Measurement measure(std::span<const MatrixScheme> allocation, const MatrixSource& source);
  /// A written model.
  Measurement measure(const Checkpoint& model);

 private:
  Measurement measure_loaded();

  Session& session_;
  const Run& run_;
  LoadedDecoder loaded_;
  ReferencedWindows reference_;
};

}  // namespace knapsaq
