#include "knapsaq/tune/tuner.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/compute/tensor.h"
#include "knapsaq/tune/tune_state.h"

namespace knapsaq {
namespace {

/// More is lost by a kill than a person minds to wait for again.
constexpr std::chrono::seconds kUnsaved{60};

std::string key_of(std::string_view key, const TuneSchedule& schedule, const ReferencedWindows& train,
                   const ReferencedWindows& heldout) {
  Hasher hasher;
  hasher.update(fmt::format("knapsaq tuning 1;{};{};{};{};{};{};", schedule.steps, schedule.windows,
                            schedule.rate, schedule.look, schedule.patience, train.length));
  for (const ReferencedWindows* windows : {&train, &heldout}) {
    hasher.update(fmt::format("{}:", windows->tokens.size()));
    hasher.update(std::as_bytes(std::span(windows->tokens)));
  }
  hasher.update(key);
  return hasher.hex();
}

class Tuning {
 public:
  Tuning(TunableModel& model, const ReferencedWindows& train, const ReferencedWindows& heldout,
         const TuneSchedule& schedule)
      : model_(model), train_(train), heldout_(heldout), schedule_(schedule), gradient_(model.parameters()) {
    model.take_gradient(0, gradient_);  // of a step that somebody interrupted
  }

  WindowsComparison look(std::span<const float> parameters) {
    model_.set(parameters);
    return compare_windows(model_.decoder(), heldout_, heldout_.windows);
  }

  /// One step from state.parameters, which are set.
  void step(TuneState& state) {
    const std::int64_t batch = std::min(schedule_.windows, train_.windows);
    // The same number of windows a pass as in scoring, so that memory does not grow with the step.
    const std::int64_t most = std::max<std::int64_t>(1, model_.decoder().windows_per_batch(train_.length));
    double sum = 0;
    for (std::int64_t done = 0; done < batch;) {
      const std::int64_t first = (state.adam.steps * batch + done) % train_.windows;
      const std::int64_t count = std::min({most, batch - done, train_.windows - first});
      sum += model_.add_gradient(train_, first, first + count);
      done += count;
    }
    const auto tokens = static_cast<double>(batch * train_.length);
    model_.take_gradient(static_cast<float>(1 / tokens), gradient_);
    if (first_not_finite(gradient_))
      throw NotFiniteError(
          fmt::format("the gradient of step {} is not finite: a weight of the model is broken or too large",
                      state.adam.steps + 1));
    state.train_kl += sum / tokens;
    state.adam.step(gradient_, cosine_rate(schedule_.rate, state.adam.steps, schedule_.steps),
                    state.parameters);
  }

 private:
  TunableModel& model_;
  const ReferencedWindows& train_;
  const ReferencedWindows& heldout_;
  const TuneSchedule& schedule_;
  std::vector<float> gradient_;
};

}  // namespace

TuneOutcome tune(TunableModel& model, const ReferencedWindows& train, const ReferencedWindows& heldout,
                 const TuneSchedule& schedule, std::string_view key, const std::filesystem::path& file,
                 const std::function<void(const TuneLook&)>& looked, Progress& progress) {
  if (train.windows < 1 || heldout.windows < 1 || schedule.steps < 1 || schedule.windows < 1)
    throw std::invalid_argument("tune: nothing to tune on");
  const std::string whole_key = key_of(key, schedule, train, heldout);
  Tuning tuning(model, train, heldout, schedule);
  TuneState state(model.parameters());
  TuneOutcome outcome;
  outcome.heldout_before = tuning.look(std::vector<float>(model.parameters()));
  state.best_kl = outcome.heldout_before.kl;
  load_tune_state(state, whole_key, schedule.steps, file);

  auto saved = std::chrono::steady_clock::now();
  const auto save = [&] {
    save_tune_state(state, whole_key, file);
    saved = std::chrono::steady_clock::now();
  };
  const auto look_is_due = [&] {
    const std::int64_t step = state.adam.steps;
    return step > state.looked_step && (step % schedule.look == 0 || step == schedule.steps);
  };
  const auto look = [&] {
    const double kl = tuning.look(state.parameters).kl;
    ++state.looks_without_gain;
    if (kl < state.best_kl) {
      state.best_kl = kl;
      state.best = state.parameters;
      state.best_step = state.adam.steps;
      state.looks_without_gain = 0;
    }
    const double train_kl = state.train_kl / static_cast<double>(state.adam.steps - state.looked_step);
    if (looked)
      looked({state.adam.steps, schedule.steps, train_kl, kl, outcome.heldout_before.kl, state.best_kl,
              state.best_step});
    state.train_kl = 0;
    state.looked_step = state.adam.steps;
    save();
  };
  // Those that are left, so that the rate is that of this call.
  ProgressScope scope(progress, "tuning", static_cast<std::uint64_t>(schedule.steps - state.adam.steps),
                      "steps");
  try {
    model.set(state.parameters);
    while (true) {
      if (look_is_due()) look();
      if (state.adam.steps == schedule.steps || state.looks_without_gain == schedule.patience) break;
      check_cancelled();
      tuning.step(state);
      ++outcome.made;
      scope.advance();
      if (!look_is_due()) model.set(state.parameters);
      if (std::chrono::steady_clock::now() - saved > kUnsaved) save();
    }
  } catch (const Cancelled&) {
    save();  // steps and looks change the state when nothing can interrupt them any more
    throw;
  }
  outcome.heldout_after = tuning.look(state.best);
  outcome.steps = state.adam.steps;
  outcome.best_step = state.best_step;
  return outcome;
}

}  // namespace knapsaq
