#include "knapsaq/pipeline/improve_selection.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/bank/bank_index.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/heldout_judge.h"
#include "knapsaq/pipeline/tune.h"
#include "knapsaq/pipeline/write_selection.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Where models are on their way to the output, in the run's folder.
constexpr std::string_view kImprovedName = "improved";

// Windows of a step of tuning, and their tokens: those of the experiments that the steps were chosen by.
constexpr std::int64_t kTuneWindows = 4;

std::int64_t tune_steps(Effort effort) {
  switch (effort) {
    case Effort::quick:
      return 0;
    case Effort::normal:
      return 100;
    case Effort::best:
      break;
  }
  return 300;
}

/// Searched allocations whose codes are made again. The order of the bank's codes is not quite that of
/// corrected ones: the best of three is 2.5 % better than the first, in the mean (docs/quality.md).
std::size_t corrected_points(Effort effort) { return effort == Effort::best ? 3 : 1; }

/// A way to store an allocation, measured.
struct Form {
  Candidate candidate;  ///< with the measurement of this form
  bool is_uniform = false;
  std::unique_ptr<const MatrixSource> corrected;  ///< null: the bank's codes
};

/// The work on one selection.
class Improvement {
 public:
  Improvement(Session& session, const Run& run, const Selection& selection, const Budget& budget,
              Effort effort, const CalibrationOptions& calibration)
      : session_(session),
        run_(run),
        selection_(selection),
        budget_(budget),
        effort_(effort),
        calibration_(calibration),
        divergence_(run.settings().divergence),
        judge_(session, run) {
    // What judges a result must not have made it. Text of the model's own is another one anyway.
    const TokenSet& heldout = run.settings().heldout;
    if (!uses_self(calibration_)) calibration_.samples.held_back = heldout.windows() * heldout.length;
  }

  WrittenModel write(const fs::path& output, bool force) {
    const Samples samples = calibration_samples(session_, calibration_);
    std::vector<Form> forms = forms_of_selection(samples);
    Form& best =
        *std::ranges::min_element(forms, {}, [&](const Form& form) { return value(form.candidate); });
    std::vector<WritingStep> steps = {step("bank", bank_form(best.candidate))};
    if (best.corrected) steps.push_back(step("corrected", best.candidate));

    const Places places = places_of(best, samples);
    write_native(best, places.native);
    Candidate improved = best.candidate;
    const bool is_better = tune_model(places, improved.heldout) && improved.heldout.finite() &&
                           value(improved) < value(best.candidate);
    if (is_better) steps.push_back(step("tuned", improved));
    WrittenPoint written =
        write_folder(run_, is_better ? places.tuned : places.native, output, force, session_.listener());
    written.bits = improved.bits;

    Selection result;
    result.reference_loss = selection_.reference_loss;
    result.is_uniform = best.is_uniform;
    result.chosen = is_better ? std::move(improved) : best.candidate;
    // The best of the other kind.
    for (Form& form : forms)
      if (form.is_uniform != best.is_uniform &&
          (!result.other || value(form.candidate) < value(*result.other)))
        result.other = form.candidate;
    if (result.other)
      result.difference =
          paired_difference(result.chosen.heldout, result.other->heldout, run_.settings().heldout.length - 1);
    WrittenModel model = describe(run_, result, std::move(written), output);
    model.steps = std::move(steps);
    fs::remove_all(run_.folder() / kImprovedName);  // and what other efforts had begun
    remove_corrections(run_);
    return model;
  }

 private:
  struct Places {
    fs::path folder;  ///< of what follows
    fs::path native;  ///< the model before it is tuned
    fs::path tuned;
  };

  double value(const Candidate& candidate) const { return candidate.heldout.value(divergence_); }

  WritingStep step(std::string name, const Candidate& candidate) const {
    return {.name = std::move(name),
            .judged = judged_model(candidate),
            .divergence = value(candidate),
            .divergence_standard_error = standard_error(candidate.heldout)};
  }

  /// The bank's and the corrected codes of both allocations, and corrected codes of the next best ones that
  /// were searched; what computes no finite numbers is left out.
  std::vector<Form> forms_of_selection(const Samples& samples) {
    const std::optional<Calibration> gradients = gradients_of_bank();
    std::vector<Form> forms;
    const auto add = [&](const Candidate& candidate, bool is_uniform) {
      try {
        Form form{candidate, is_uniform, nullptr};
        form.corrected = correct_point(run_, candidate.point, samples, gradients ? &*gradients : nullptr,
                                       session_.listener());
        form.candidate.heldout = judge_.measure(allocation_of(run_, candidate.point), *form.corrected);
        if (form.candidate.heldout.finite()) forms.push_back(std::move(form));
      } catch (const NotFiniteError& error) {
        // What computes no finite numbers has lost, here as in the search.
        session_.listener().note(fmt::format("no corrected codes for one of the models: {}", error.what()));
      }
    };
    forms.push_back({selection_.chosen, selection_.is_uniform, nullptr});  // is finite
    add(selection_.chosen, selection_.is_uniform);
    if (selection_.other) {
      if (selection_.other->heldout.finite())
        forms.push_back({*selection_.other, !selection_.is_uniform, nullptr});
      add(*selection_.other, !selection_.is_uniform);
    }
    for (const Point& point : best_searched(run_, budget_, corrected_points(effort_)))
      if (std::ranges::none_of(forms, [&](const Form& form) { return form.candidate.point == point; }))
        add({point, run_.space().bytes(point), run_.space().bits(point), {}}, false);
    return forms;
  }

  /// The same allocation with the codes that were searched on.
  Candidate bank_form(const Candidate& candidate) {
    for (const Candidate* known : {&selection_.chosen, selection_.other ? &*selection_.other : nullptr})
      if (known != nullptr && known->point == candidate.point) return *known;
    Candidate bank = candidate;
    bank.heldout =
        judge_.measure(allocation_of(run_, candidate.point), BankSource(run_.bank(), run_.config()));
    return bank;
  }

  /// The calibration that the bank was made with, if it is there and knows gradients.
  std::optional<Calibration> gradients_of_bank() const {
    const fs::path folder = run_.bank().folder() / kBankCalibrationName;
    if (!has_calibration(folder)) return std::nullopt;
    Calibration calibration = Calibration::open(folder);
    if (!calibration.has_outputs() || calibration.identity() != run_.bank().index().inputs)
      return std::nullopt;
    return calibration;
  }

  Places places_of(const Form& form, const Samples& samples) const {
    std::string key(form.candidate.point.begin(), form.candidate.point.end());
    key += fmt::format("{} {} {}", form.corrected != nullptr, samples.hash, name_of(effort_));
    Places places;
    places.folder = run_.folder() / kImprovedName / hash_hex(key);
    places.native = places.folder / "model";
    places.tuned = places.folder / "tuned";
    return places;
  }

  /// Whole or not at all: what is there is right.
  void write_native(const Form& form, const fs::path& folder) {
    if (fs::exists(folder)) return;
    fs::create_directories(folder.parent_path());
    const BankSource bank(run_.bank(), run_.config());
    write_quantized(run_.checkpoint(), run_.config(), allocation_of(run_, form.candidate.point),
                    form.corrected == nullptr ? static_cast<const MatrixSource&>(bank) : *form.corrected,
                    folder, true, session_.listener(), {.kept = run_.settings().kept});
  }

  /// Makes the tuned model and measures it. False if its gradients are not finite.
  bool tune_model(const Places& places, Measurement& heldout) {
    if (!fs::exists(places.tuned)) {
      Session quantized(session_.environment(), places.native);
      TuneOptions options;
      options.output = places.tuned.string();
      options.text = calibration_.text;
      options.held_back = calibration_.samples.held_back;
      options.steps = tune_steps(effort_);
      options.batch = kTuneWindows;
      options.window = run_.settings().heldout.length;
      options.seed = calibration_.samples.seed;
      options.precision = calibration_.precision;
      try {
        tune(quantized, session_, options);
      } catch (const NotFiniteError& error) {
        session_.listener().note(fmt::format("the model is not tuned: {}", error.what()));
        return false;
      }
    }
    heldout = judge_.measure(Checkpoint::open(places.tuned));
    return true;
  }

  Session& session_;
  const Run& run_;
  const Selection& selection_;
  const Budget& budget_;
  Effort effort_;
  CalibrationOptions calibration_;
  Divergence divergence_;
  HeldOutJudge judge_;
};

}  // namespace

EffortCost cost_of(Effort effort, const Run& run, const CalibrationOptions& calibration) {
  if (effort == Effort::quick) return {};
  const TokenSet& search = run.settings().search;
  const auto pass = static_cast<double>(search.windows() * search.length);
  const bool samples = uses_self(calibration);  // a sampled token costs about a forward pass of it
  const SampleOptions options = samples ? resolve_self(calibration.samples, run.config().max_positions)
                                        : resolve(calibration.samples, run.config().max_positions);
  const auto calibrated = static_cast<double>(options.samples * options.window);
  const auto tuned = static_cast<double>(tune_steps(effort) * kTuneWindows * run.settings().heldout.length);
  EffortCost cost;
  // The searched models and the uniform one; in each the full model's pass and the quantized one's.
  const auto models = static_cast<double>(corrected_points(effort) + 1);
  cost.codes = calibrated * (2 * models + (samples ? 1 : 0)) / pass;
  // The full model's forward pass; forward and backward pass with the gradients by the weights
  // (measured: 4.5).
  cost.tuning = tuned * (1 + 4.5 + (samples ? 1 : 0)) / pass;
  return cost;
}

WrittenModel write_improved(Session& session, const Run& run, const Selection& selection,
                            const Budget& budget, Effort effort, const CalibrationOptions& calibration,
                            const fs::path& output, bool force) {
  if (effort == Effort::quick) return write_selection(run, selection, {}, output, force, session.listener());
  return Improvement(session, run, selection, budget, effort, calibration).write(output, force);
}

}  // namespace knapsaq
