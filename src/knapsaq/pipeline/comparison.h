#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/tasks/task_set.h"
#include "knapsaq/eval/windows.h"
#include "knapsaq/family/config.h"
#include "knapsaq/pipeline/case_log.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A way to quantize a whole model: the papers' baselines and MXQ.
struct ComparisonCase {
  /// "none" (the unquantized model), "mxq", or a method of the registry, which uses the same scheme
  /// everywhere.
  std::string method;
  /// A scheme without its method ("b3g64"), or MXQ's budget in bits per weight ("3.25"); "" for none and nf4.
  std::string configuration;
};

/// The cases in the order of a table: the unquantized model, then `methods` in their order; nf4 and GGML
/// types have one case, mxq one for each of `budgets`, every other method one for each of `configurations`.
/// Throws UsageError for an unknown method and for a configuration that no method supports.
std::vector<ComparisonCase> comparison_cases(std::span<const std::string> methods,
                                             std::span<const std::string> configurations,
                                             std::span<const std::string> budgets);

/// "2.75:7.75:0.05" (both ends included) or "2.5,3.25": budgets in bits per weight, as text with no more
/// digits than were given. Throws UsageError.
std::vector<std::string> parse_budgets(std::string_view text);

/// Whether a case needs statistics of the linears' inputs.
bool needs_statistics(const ComparisonCase& one);

/// Names in ComparisonSetup::work: the model of the current case; the prefix of tables of errors.
inline constexpr std::string_view kComparedModelName = "model";
inline constexpr std::string_view kComparedErrorsName = "errors";

/// What the cases of a comparison share. Everything must outlive the Comparison.
struct ComparisonSetup {
  const Checkpoint* checkpoint = nullptr;
  const ModelConfig* config = nullptr;
  std::string fingerprint;  ///< of the checkpoint
  Backend* backend = nullptr;
  std::span<const std::int32_t> tokens;  ///< of the text that is scored
  WindowOptions windows;                 ///< resolved
  std::optional<std::int32_t> bos;       ///< if the tokenizer adds one
  const TaskSet* tasks = nullptr;        ///< on which every model is evaluated; null: none
  Menu menu;                             ///< MXQ's
  const InputSource* inputs = nullptr;   ///< null if no case needs statistics
  const Samples* samples = nullptr;      ///< for AWQ's scales, kFoldingTokens or so; null as inputs
  std::filesystem::path work;            ///< folder for what is kept between cases and runs
};

/// Quantizes, writes, loads and scores a model case by case, through the same steps as a user.
class Comparison {
 public:
  explicit Comparison(ComparisonSetup setup) : setup_(std::move(setup)) {}

  /// Throws what measure() would throw, but before the work: for a model that is already quantized, a menu
  /// that cannot be measured, and the first of the budgets that is too small.
  void check(std::span<const ComparisonCase> cases) const;
  /// A quantized model that computes no finite numbers has NaN as its results. Throws NotFiniteError if the
  /// unquantized model does not.
  CaseResult measure(const ComparisonCase& one, Progress& progress);

 private:
  std::vector<MatrixScheme> allocation_of(const ComparisonCase& one, Progress& progress);
  const ErrorTable& table(Progress& progress);
  /// Perplexity and tasks.
  void score(const Checkpoint& model, CaseResult& result, Progress& progress) const;

  ComparisonSetup setup_;
  std::optional<ErrorTable> table_;  ///< once MXQ has needed it
};

}  // namespace knapsaq
