#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/eval/compare_windows.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/tune/tunable_model.h"

namespace knapsaq {

/// How the numbers of a quantized model are tuned.
struct TuneSchedule {
  std::int64_t steps = 100;
  std::int64_t windows = 4;  ///< of a step
  /// Of Adam at the first step, in units of TunableMatrix; falls to 0. The best of 2e-3 to 32e-3 in steps of
  /// 2 at 2 bits; half and twice as much leave 4 and 1.5 % more divergence (wiki-llama-6m, gptq:b2g64, 100
  /// steps).
  float rate = 16e-3f;
  /// Steps between looks at the held-out tokens. With 16 held-out windows a look costs a tenth of these
  /// steps.
  std::int64_t look = 10;
  /// Looks without gain after which it ends.
  std::int64_t patience = 5;
};

/// After a look at the held-out tokens.
struct TuneLook {
  std::int64_t step = 0;  ///< steps made
  std::int64_t steps = 0;
  double train_kl = 0;  ///< mean over the steps since the last look
  double heldout_kl = 0;
  double untuned_kl = 0;       ///< on the held-out tokens before the first step
  double best_kl = 0;          ///< the least so far, that of the untuned model included
  std::int64_t best_step = 0;  ///< where that was
};

struct TuneOutcome {
  WindowsComparison heldout_before;
  WindowsComparison heldout_after;
  std::int64_t steps = 0;      ///< made
  std::int64_t made = 0;       ///< of these, by this call
  std::int64_t best_step = 0;  ///< 0: nothing was better than the untuned model
};

/// Lowers KL(full || model) on the windows of `train`, which are taken in their order and from the first
/// again after the last, by Adam on the model's parameters. At the end the model has the parameters that were
/// best on `heldout`, of those looked at; it is never worse there than untuned.
///
/// The state is kept in `file` at every look, about once a minute and before Cancelled leaves; a call with
/// the same arguments goes on from it. `key` names the model, the tokens and the arithmetic; the schedule is
/// added. Throws NotFiniteError if a gradient is not finite; Cancelled.
TuneOutcome tune(TunableModel& model, const ReferencedWindows& train, const ReferencedWindows& heldout,
                 const TuneSchedule& schedule, std::string_view key, const std::filesystem::path& file,
                 const std::function<void(const TuneLook&)>& looked = {},
                 Progress& progress = Progress::none());

}  // namespace knapsaq
