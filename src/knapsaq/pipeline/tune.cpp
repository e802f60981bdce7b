#include "knapsaq/pipeline/tune.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/compare_windows.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/loaded_decoder.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/stopwatch.h"
#include "knapsaq/pipeline/tune_tokens.h"
#include "knapsaq/tune/tuner.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTokensName = "tokens.safetensors";
constexpr std::string_view kStateName = "state.safetensors";

/// Of the windows that were tuned on, so many are compared: as a rule there are as many held out.
constexpr std::int64_t kTrainWindows = 16;

bool is_own(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  return fs::is_regular_file(entry.symlink_status()) &&
         (name.starts_with(kTokensName) || name.starts_with(kStateName));
}

/// Throws UsageError, before any work, if something is there that is not of a tuning.
void check_work_place(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder))
    throw UsageError(fmt::format("{}: is in the way: tuning keeps a folder there", folder.string()));
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (!is_own(entry))
      throw UsageError(fmt::format("{}: is not of a tuning, which would keep its files there: move it away",
                                   entry.path().string()));
}

void remove_work(const fs::path& folder) {
  std::vector<fs::path> own;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (is_own(entry)) own.push_back(entry.path());
  for (const fs::path& file : own) fs::remove(file);
}

void check(const TuneOptions& options) {
  if (options.steps < 1) throw UsageError("--steps: give 1 or more");
  if (options.batch < 1) throw UsageError("--batch: give 1 window or more");
  if (!(options.rate > 0)) throw UsageError("--rate: give a number above 0");
}

/// The two have to be one model.
void check_models(const Session& quantized, const Session& full) {
  const std::vector<ExpectedTensor> own = stored_tensors(quantized.config());
  const std::vector<ExpectedTensor> of_full = stored_tensors(full.config());
  const bool same = std::ranges::equal(own, of_full, [](const ExpectedTensor& a, const ExpectedTensor& b) {
    return a.name == b.name && a.shape == b.shape;
  });
  if (!same)
    throw UsageError(fmt::format("{} has other tensors than {}: give the model that it was quantized from",
                                 full.path().string(), quantized.path().string()));
}

TuneMeasurement of(const WindowsComparison& one) { return {one.kl, one.perplexity(), one.agreement}; }

}  // namespace

TuneResult tune(Session& quantized, Session& full, const TuneOptions& options) {
  const ExecutionScope scope(full.execution());
  Listener& listener = full.listener();
  const Stopwatch watch;
  check(options);
  OutputPlan plan;
  plan.reads("the quantized model", quantized.path());
  plan.reads("the model", full.path());
  plan_texts(plan, options.text);
  plan.reads("the foreign text", options.foreign);
  const fs::path output = plan.folder(options.output, options.force);
  const fs::path work_place = plan.workspace(output.string() + ".tuning");
  check_work_place(work_place);
  check_shapes(quantized.checkpoint(), quantized.config());
  check_shapes(full.checkpoint(), full.config());
  check_models(quantized, full);
  require_quantized(quantized.checkpoint(), quantized.config());

  const Precision precision = options.precision == "fp32" ? Precision::fp32 : Precision::bf16;
  const std::string key =
      fmt::format("{};{};{}", full.fingerprint(), quantized.fingerprint(), options.precision);
  const MadeFolder work(work_place);
  TuneResult result;
  {
    const FolderLock lock(work_place);
    const TuneTokens tokens = tune_tokens(full, options, work_place / kTokensName);

    // What the full model makes of all windows is kept, and its head; the rest of it makes room.
    LoadedDecoder loaded = full.take_decoder(precision);
    const auto reference = [&](const std::vector<std::int32_t>& some) {
      return reference_windows(*loaded.decoder, some, std::ssize(some) / tokens.window, tokens.window,
                               listener);
    };
    const ReferencedWindows train = reference(tokens.train);
    const ReferencedWindows heldout = reference(tokens.heldout);
    const ReferencedWindows foreign = reference(tokens.foreign);
    loaded.decoder.reset();

    Decoder decoder = Decoder::load(quantized.checkpoint(), quantized.config(), *loaded.backend, listener);
    TunableModel model(quantized.checkpoint(), decoder);
    const std::int64_t train_windows = std::min(kTrainWindows, train.windows);
    const auto measure = [&](TuneMeasurement TuneResult::Text::*when) {
      const WindowsComparison of_train = compare_windows(decoder, train, train_windows);
      result.train.tokens = of_train.tokens;
      result.train.*when = of(of_train);
      if (foreign.windows == 0) return;
      if (!result.foreign) result.foreign.emplace();
      const WindowsComparison of_foreign = compare_windows(decoder, foreign, foreign.windows);
      result.foreign->tokens = of_foreign.tokens;
      (*result.foreign).*when = of(of_foreign);
    };
    measure(&TuneResult::Text::before);
    const TuneSchedule schedule{
        .steps = options.steps, .windows = options.batch, .rate = static_cast<float>(options.rate)};
    const Stopwatch tuning;
    const TuneOutcome outcome = tune(
        model, train, heldout, schedule, key, work_place / kStateName,
        [&](const TuneLook& look) {
          listener.so_far(
              fmt::format("KL {:.4f} to {:.4f} after {}", look.untuned_kl, look.best_kl, look.best_step));
        },
        listener);
    if (outcome.made > 0) result.seconds_per_step = tuning.seconds() / static_cast<double>(outcome.made);
    measure(&TuneResult::Text::after);
    result.heldout = {outcome.heldout_before.tokens, of(outcome.heldout_before), of(outcome.heldout_after)};
    result.steps = outcome.steps;
    result.best_step = outcome.best_step;
    result.parameters = model.parameters();
    result.bytes = rewrite_quantized(quantized.checkpoint(), quantized.config(), model.replacements(), output,
                                     options.force, listener);
    remove_work(work_place);
  }
  std::error_code not_empty;
  fs::remove(work_place, not_empty);
  result.path = output;
  result.seconds = watch.seconds();
  result.peak_resident_bytes = peak_resident_memory();
  return result;
}

}  // namespace knapsaq
