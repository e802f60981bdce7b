#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "calibration.h"
#include "command.h"
#include "knapsaq/bank/find_folding.h"
#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/folder_record.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/report/comparison.h"
#include "knapsaq/text/tokenizer.h"
#include "task_options.h"

namespace knapsaq::command {
namespace {

namespace fs = std::filesystem;

/// In the work folder.
constexpr std::string_view kCalibrationName = "calibration";

struct Options {
  Common common;
  std::string model;
  std::string text;
  std::string output;
  std::vector<std::string> methods = {"rtn", "hqq", "nf4", "gptq", "awq", "mxq"};
  std::vector<std::string> configurations = {"b4g128", "b4g64", "b3g128", "b3g64", "b2g64"};
  std::string budgets = "2.5,2.75,3.13,3.25,4.13,4.25";
  std::string menu = "mxq";
  std::string protocol = "gptq";
  WindowOptions windows;
  std::string precision = "bf16";
  std::vector<std::string> calibration_text;
  SampleOptions samples;
  TaskOptions tasks;
};

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

nlohmann::ordered_json json_of(const CaseResult& one, const std::vector<std::string>& tasks) {
  nlohmann::ordered_json json = {{"method", one.method},
                                 {"configuration", one.configuration},
                                 {"bits", one.bits},
                                 {"bytes", one.bytes},
                                 {"memory_bytes", one.memory},
                                 {"perplexity", one.perplexity},
                                 {"quantize_seconds", one.quantize_seconds}};
  if (tasks.empty()) return json;
  for (std::size_t i = 0; i < tasks.size(); ++i) json["tasks"][tasks[i]] = one.tasks[i];
  json["average"] = one.average;
  return json;
}

void print_header(const std::vector<std::string>& tasks) {
  fmt::print("{:<10} {:<14} {:>8} {:>12} {:>12} {:>12} {:>10}{}\n", "method", "configuration", "bits",
             "bytes", "in memory", "perplexity", "quantized", tasks.empty() ? "" : "   tasks");
}

void print_row(const CaseResult& one) {
  const bool finite = std::isfinite(one.perplexity);
  fmt::print("{:<10} {:<14} {:>8.4f} {:>12} {:>12} {:>12} {:>10}{}\n", one.method, one.configuration,
             one.bits, one.bytes, format_bytes(one.memory),
             finite ? fmt::format("{:.4f}", one.perplexity) : "not finite",
             one.method == "none" ? "" : format_seconds(one.quantize_seconds),
             one.tasks.empty() || !finite ? "" : fmt::format("  {:.4f}", one.average));
  if (!one.broken.empty()) fmt::print("  {}\n", one.broken);
  flush_output();  // a row that is finished is seen, also through a pipe
}

void run(const Options& options) {
  start(options.common);
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan.reads("the text", options.text);
  plan_texts(plan, options.calibration_text);
  plan.reads("the tasks", options.tasks.data);
  fs::path csv;
  fs::path work_place;
  if (!options.output.empty()) {
    csv = plan.log(options.output);
    work_place = plan.workspace(csv.string() + ".work");
    check_work_place(work_place);
  }
  const std::vector<std::string> budgets = parse_budgets(options.budgets);
  const std::vector<ComparisonCase> cases =
      comparison_cases(options.methods, options.configurations, budgets);
  const bool calibrates = std::ranges::any_of(cases, needs_statistics);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);

  const Checkpoint checkpoint = Checkpoint::open_folder(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  const Tokenizer tokenizer = Tokenizer::load(options.model);

  ComparisonSetup setup;
  setup.checkpoint = &checkpoint;
  setup.config = &config;
  setup.windows = resolve(requested, config.max_positions);
  const auto [text, tokens] = read_evaluation_text(options.text, tokenizer, setup.windows);
  setup.tokens = tokens;
  const TaskSet tasks = read_tasks(options.tasks, tokenizer, config);
  setup.tasks = &tasks;
  setup.bos = tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt;
  setup.menu = parse_menu(options.menu);
  // What cannot be done is said before the work.
  static_cast<void>(plan_windows(std::ssize(tokens), setup.windows));
  Comparison(setup).check(cases);

  const Precision precision = options.precision == "fp32" ? Precision::fp32 : Precision::bf16;
  const auto backend = make_cpu_backend(precision);
  setup.backend = backend.get();
  std::optional<Samples> samples;
  if (calibrates)
    samples = calibration_samples(checkpoint, config, options.calibration_text, options.samples, *backend);
  setup.fingerprint = fingerprint(checkpoint, progress());
  const std::string what =
      fmt::format("{} {} {} {} {} {} {} {} {}", setup.fingerprint, hash_hex(text), options.protocol,
                  setup.windows.window, setup.windows.stride, setup.windows.limit, options.precision,
                  setup.menu.name, samples ? samples->hash : "") +
      tasks.hash();
  const std::string id = hash_hex(what).substr(0, 16);
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
    calibration =
        calibrate(checkpoint, config, setup.fingerprint, *samples, *backend, folder, other, progress());
    setup.inputs = &*calibration;
    scale_samples = calibration_samples(checkpoint, config, options.calibration_text, samples->options,
                                        *backend, kFoldingTokens);
    setup.samples = &*scale_samples;
  }

  if (!options.common.json) print_header(tasks.names());
  Comparison comparison(setup);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const ComparisonCase& one : cases) {
    check_cancelled();
    if (log.find(one.method, one.configuration) == nullptr) log.add(comparison.measure(one, progress()));
    const CaseResult& result = *log.find(one.method, one.configuration);
    if (options.common.json) {
      rows.push_back(json_of(result, tasks.names()));
    } else {
      print_row(result);
    }
  }
  if (options.common.json)
    print({{"model", options.model},
           {"text", options.text},
           {"protocol", options.protocol},
           {"window", setup.windows.window},
           {"text_tokens", tokens.size()},
           {"precision", options.precision},
           {"cases", rows}});
}

}  // namespace

void add_compare(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("compare", "Quantize a model in many ways and score each of them");
  verb.option("model", options->model, "Model folder in Hugging Face layout, full precision").required();
  verb.option("--text", options->text, "Text file (UTF-8), or C4's documents as .jsonl, to score").required();
  verb.option("-o,--output", options->output,
              "CSV that gets a row per finished case; a run that was stopped goes on with it")
      .not_empty();
  verb.option("--methods", options->methods, "Methods, with commas; mxq allocates within --budgets")
      .separated_by(',')
      .show_default();
  verb.option("--configurations", options->configurations,
              "Schemes without their method, with commas: what every uniform method is tried with")
      .separated_by(',')
      .show_default();
  verb.option("--budgets", options->budgets,
              "Bits per weight for mxq: a list with commas, or FIRST:LAST:STEP")
      .show_default();
  verb.option("--menu", options->menu, "Schemes that mxq chooses from: mxq, mxq-f16, gguf or a list")
      .show_default();
  verb.option("--protocol", options->protocol, "gptq, stride or llama; see docs/commands.md").show_default();
  verb.option("--window", options->windows.window, "Tokens in a window that is scored").range(0);
  verb.option("--stride", options->windows.stride, "Tokens between windows of protocol stride").range(0);
  verb.option("--windows", options->windows.limit, "Score the first N windows only; 0: all").range(0);
  add_task_options(verb, options->tasks);
  verb.option("--calibration-text", options->calibration_text,
              "Texts for gptq and awq, or self (the default) for text that the model itself samples");
  verb.option("--samples", options->samples.samples, "Windows to calibrate on").range(0).show_default();
  verb.option("--calibration-window", options->samples.window,
              "Tokens in each; default: 2048 (self: 512), or what the model can see if that is less")
      .range(0);
  verb.option("--seed", options->samples.seed, "Which windows").range(0).show_default();
  verb.option("--precision", options->precision, "Arithmetic of the forward pass: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
  add_common(verb, options->common);
  verb.example("knapsaq compare MODEL --text wiki.test.raw -o compare.csv");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
