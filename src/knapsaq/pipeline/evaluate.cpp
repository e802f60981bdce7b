#include "knapsaq/pipeline/evaluate.h"

#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/evaluation_text.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/model_memory.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/pipeline/tasks.h"
#include "knapsaq/pipeline/text_judge.h"
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
  if (!options.reference.empty() && options.text.empty())
    throw UsageError("--reference judges by a text: give --text");
  OutputPlan plan;
  plan.reads("the model", session.path());
  plan.reads("the reference", options.reference);
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
          found.windows,    windows,   watch.seconds(),      {}};
}

/// The text beside the full-precision model's predictions of it.
EvaluateResult::Text compare_text(const TextJudge& judge, Decoder& decoder, const Stopwatch& watch) {
  const Measurement found = judge.measure(decoder);
  const Measurement& full = judge.reference();
  return {found.perplexity(),
          found.loss,
          loss_standard_error(found),
          found.tokens,
          found.windows,
          judge.windows(),
          watch.seconds(),
          EvaluateResult::Text::Reference{kl_statistics(found.per_token, found.windows), 1 - found.agreement,
                                          full.perplexity()}};
}

}  // namespace

EvaluateResult evaluate(Session& session, const EvaluateOptions& options) {
  const ExecutionScope scope(session.execution());
  const fs::path items = check_and_plan(session, options);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);
  const std::unique_ptr<Backend> backend = make_judging_backend(options.precision);
  const WindowOptions windows = resolve(requested, session.config().max_positions);
  // What is wrong with texts and tasks is said before a model is loaded.
  const Stopwatch judging;
  std::optional<Session> full;
  std::optional<TextJudge> judge;
  std::vector<std::int32_t> tokens;
  if (!options.reference.empty()) {
    full.emplace(session.environment(), options.reference);
    judge.emplace(*full, options.text, requested, options.precision);
    judge->check(session);
  } else if (!options.text.empty()) {
    tokens = read_evaluation_text(options.text, session.tokenizer(), windows).tokens;
    plan_windows(std::ssize(tokens), windows);
  }
  const TaskSet tasks = read_tasks(session, options.tasks);

  if (judge) judge->predict();
  const std::unique_ptr<Decoder> loaded =
      judge ? judge->load(session)
            : std::make_unique<Decoder>(
                  Decoder::load(session.checkpoint(), session.config(), *backend, session.listener()));
  Decoder& decoder = *loaded;
  EvaluateResult result;
  if (judge) {
    result.text = compare_text(*judge, decoder, judging);
  } else if (!options.text.empty()) {
    result.text = score_text(session, decoder, tokens, windows);
  }
  if (!tasks.empty()) {
    const Stopwatch watch;
    const std::vector<TaskResult> found = knapsaq::judge(tasks, decoder, session.listener());
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
