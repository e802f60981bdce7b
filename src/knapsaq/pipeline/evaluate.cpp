#include "knapsaq/pipeline/evaluate.h"

#include <filesystem>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/model_memory.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/pipeline/tasks.h"
#include "knapsaq/report/task_scores.h"
#include "knapsaq/search/run.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Puts the scores where `report` finds them.
void keep(const Session& session, const EvaluateOptions& options, const TaskSet& tasks,
          std::span<const TaskResult> results) {
  const fs::path folder = fs::absolute(session.path()).lexically_normal();  // also of "models/llama/"
  TaskScores scores{.model = (folder.has_filename() ? folder : folder.parent_path()).filename().string(),
                    .bytes = session.checkpoint().tensor_bytes(),
                    .bits = linear_bits(session.checkpoint(), session.config()),
                    .precision = options.precision,
                    .data = tasks.hash(),
                    .tasks = {},
                    .average = average(results)};
  for (const TaskResult& result : results)
    scores.tasks.push_back({result.task, result.items.size(), result.acc, result.acc_norm});
  keep_task_scores(scores, options.run, session.path());
}

/// Where the items go; empty: nowhere.
fs::path check_and_plan(const Session& session, const EvaluateOptions& options) {
  if (options.text.empty() && options.tasks.names.empty())
    throw UsageError("there is nothing to do: give --text, --tasks or both");
  if (!options.items.empty() && options.tasks.names.empty())
    throw UsageError("--items writes what the items of --tasks got: name tasks");
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan.reads("the text", options.text);
  plan.reads("the tasks", options.tasks.data);
  plan.reads("the run", options.run);
  fs::path items;
  if (!options.items.empty()) items = plan.file(options.items, true, are_items);
  if (!options.run.empty()) {
    if (options.tasks.names.empty()) throw UsageError("--run keeps what --tasks found: name tasks");
    if (!has_run(options.run))
      throw UsageError(options.run + ": holds no run; give the folder that search or fit worked in");
  }
  return items;
}

EvaluateResult::Text score_text(Session& session, Decoder& decoder, std::span<const std::int32_t> tokens,
                                const WindowOptions& windows) {
  const Stopwatch watch;
  const Tokenizer& tokenizer = session.tokenizer();
  const Perplexity found = perplexity(
      tokens, windows, tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt,
      [&](std::span<const std::int32_t> batch, std::int64_t count, std::int64_t length,
          std::span<float> out) { decoder.losses(batch, count, length, out); },
      session.listener());
  return {found.perplexity, found.nll, found.standard_error, found.tokens,
          found.windows,    windows,   watch.seconds()};
}

}  // namespace

EvaluateResult evaluate(Session& session, const EvaluateOptions& options) {
  const ExecutionScope scope(session.execution());
  const fs::path items = check_and_plan(session, options);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);
  const WindowOptions windows = resolve(requested, session.config().max_positions);
  // What is wrong with texts and tasks is said before the model is loaded.
  std::vector<std::int32_t> tokens;
  if (!options.text.empty()) {
    tokens = read_evaluation_text(options.text, session.tokenizer(), windows).tokens;
    plan_windows(std::ssize(tokens), windows);
  }
  const TaskSet tasks = read_tasks(session, options.tasks);

  Decoder& decoder = session.decoder(options.precision == "fp32" ? Precision::fp32 : Precision::bf16);
  EvaluateResult result;
  if (!options.text.empty()) result.text = score_text(session, decoder, tokens, windows);
  if (!tasks.empty()) {
    const Stopwatch watch;
    const std::vector<TaskResult> found = judge(tasks, decoder, session.listener());
    const Accuracy mean = average(found);
    result.tasks = {scores_of(found), {mean.value, mean.standard_error}, tasks.items(), watch.seconds()};
    if (!items.empty()) write_items(found, items);
    if (!options.run.empty()) keep(session, options, tasks, found);
  }
  result.memory = memory_of(decoder.memory());
  result.peak_resident_bytes = peak_resident_memory();
  return result;
}

}  // namespace knapsaq
