#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/model/loaded_decoder.h"
#include "knapsaq/search/evaluator.h"
#include "knapsaq/search/run.h"

namespace knapsaq {

/// Evaluators of a run's token sets.
class Evaluators {
 public:
  virtual ~Evaluators() = default;
  /// Of kSearchSet or kHeldOutSet. Good until that of another set is asked for.
  virtual Evaluator& of(std::string_view set) = 0;
};

/// The evaluators of a run, on one decoder that is loaded when the first of them is asked for. Candidates
/// take the memory of the full-precision matrices, so what the full-precision model makes of all sets that
/// will be asked for is computed before: a set that was not announced costs another load.
class RunEvaluators final : public Evaluators {
 public:
  /// Gives the full-precision model in the run's precision.
  using Load = std::function<LoadedDecoder()>;

  /// `sets` are those that will be asked for. Without `load` the decoder is loaded from the run's checkpoint.
  /// Run and progress must outlive it.
  RunEvaluators(const Run& run, std::vector<std::string> sets, Progress& progress = Progress::none(),
                Load load = {});
  ~RunEvaluators() override;

  Evaluator& of(std::string_view set) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace knapsaq
