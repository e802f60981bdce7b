#include "knapsaq/pipeline/compare.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/find_folding.h"
#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/folder_record.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/pipeline/case_log.h"
#include "knapsaq/pipeline/comparison.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/tasks.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// In the work folder.
constexpr std::string_view kCalibrationName = "calibration";

/// The folder for what is kept between cases: beside the CSV, or temporary where there is none (an empty
/// path).
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& beside) {
    if (beside.empty()) {
      const fs::path name = fs::temp_directory_path() / "knapsaq-compare";
      remove_leftovers(name);
      temporary_.emplace(name, PartialOutput::Kind::folder);
      fs::permissions(temporary_->path(), fs::perms::owner_all);
      return;
    }
    kept_.emplace(beside);
    lock_.emplace(beside);
    // What a killed run left of the model that it was trying.
    remove_leftovers(beside / kComparedModelName);
    remove_finished(beside / kComparedModelName);
  }
  const fs::path& path() const { return temporary_ ? temporary_->path() : kept_->path(); }

 private:
  std::optional<PartialOutput> temporary_;
  std::optional<MadeFolder> kept_;
  std::optional<FolderLock> lock_;  ///< two processes on one CSV would undo each other's work
};

/// Throws UsageError, before any work, if something is there that is no work folder of a comparison.
void check_work_place(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_model = name == kComparedModelName && !foreign_in(entry.path());
    if (!is_model && !name.starts_with(fmt::format("{}.", kComparedModelName)) &&
        !name.starts_with(kComparedErrorsName) && !name.starts_with(kCalibrationName))
      throw UsageError(
          fmt::format("{}: holds {}, which is not of a comparison, and one would work there: move it away or "
                      "give another -o",
                      folder.string(), in_quotes(name)));
  }
}

/// Tells a comparison from another one, whose rows cannot stand beside its own.
std::string identity_of(const CompareOptions& options, const ComparisonSetup& setup, const std::string& text,
                        const std::optional<Samples>& samples, const TaskSet& tasks) {
  const std::string what =
      fmt::format("{} {} {} {} {} {} {} {} {}", setup.fingerprint, hash_hex(text), options.protocol,
                  setup.windows.window, setup.windows.stride, setup.windows.limit,
                  options.calibration.precision, setup.menu.name, samples ? samples->hash : "") +
      tasks.hash();
  return hash_hex(what).substr(0, 16);
}

}  // namespace

CompareResult compare(Session& session, const CompareOptions& options, const TasksSink& begins,
                      const CaseSink& sink) {
  const ExecutionScope scope(session.execution());
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan.reads("the text", options.text);
  plan_texts(plan, options.calibration.text);
  plan.reads("the tasks", options.tasks.data);
  fs::path csv;
  fs::path work_place;
  if (!options.output.empty()) {
    csv = plan.log(options.output);
    work_place = plan.workspace(csv.string() + ".work");
    check_work_place(work_place);
  }
  const std::vector<ComparisonCase> cases =
      comparison_cases(options.methods, options.configurations, parse_budgets(options.budgets));
  const bool calibrates = std::ranges::any_of(cases, needs_statistics);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);

  const Checkpoint& checkpoint = session.checkpoint();
  const ModelConfig& config = session.config();
  check_shapes(checkpoint, config);
  const Tokenizer& tokenizer = session.tokenizer();

  ComparisonSetup setup;
  setup.checkpoint = &checkpoint;
  setup.config = &config;
  setup.windows = resolve(requested, config.max_positions);
  const auto [text, tokens] = read_evaluation_text(options.text, tokenizer, setup.windows);
  setup.tokens = tokens;
  const TaskSet tasks = read_tasks(session, options.tasks);
  setup.tasks = &tasks;
  setup.bos = tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt;
  setup.menu = parse_menu(options.menu);
  // What cannot be done is said before the work.
  static_cast<void>(plan_windows(std::ssize(tokens), setup.windows));
  Comparison(setup).check(cases);

  const Precision precision = precision_of(options.calibration);
  const auto backend = make_backend({.precision = precision});
  setup.backend = backend.get();
  std::optional<Samples> samples;
  if (calibrates) samples = calibration_samples(session, options.calibration);
  setup.fingerprint = session.fingerprint();
  const std::string id = identity_of(options, setup, text, samples, tasks);
  // Another comparison's rows are refused before anything is made or cleared away; what counts is read again
  // when nobody else can write.
  if (!csv.empty()) static_cast<void>(CaseLog(csv, id, tasks.names()));
  const WorkFolder work(work_place);
  setup.work = work.path();
  CaseLog log(csv.empty() ? work.path() / "cases.csv" : csv, id, tasks.names());

  std::optional<Calibration> calibration;
  std::optional<Samples> scale_samples;
  const bool left = std::ranges::any_of(cases, [&](const ComparisonCase& one) {
    return needs_statistics(one) && log.find(one.method, one.configuration) == nullptr;
  });
  if (left) {
    const fs::path folder = work.path() / kCalibrationName;
    const CalibrationSource source{setup.fingerprint, samples->text, samples->options, precision};
    const bool other = has_calibration(folder) && !is_calibration_of(folder, source);
    calibration = make_calibration(session, *samples, precision, folder, other);
    setup.inputs = &*calibration;
    CalibrationOptions few = options.calibration;
    few.samples = samples->options;
    scale_samples = calibration_samples(session, few, kFoldingTokens);
    setup.samples = &*scale_samples;
  }
  session.make_room();

  if (begins) begins(tasks.names());
  CompareResult result{{}, tasks.names(), setup.windows.window, tokens.size()};
  Comparison comparison(setup);
  for (const ComparisonCase& one : cases) {
    check_cancelled();
    if (log.find(one.method, one.configuration) == nullptr)
      log.add(comparison.measure(one, session.listener()));
    result.cases.push_back(*log.find(one.method, one.configuration));
    if (sink) sink(result.cases.back());
  }
  return result;
}

}  // namespace knapsaq
