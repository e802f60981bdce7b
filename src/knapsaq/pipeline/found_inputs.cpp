#include "knapsaq/pipeline/found_inputs.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/find_folding.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/calib/calibration.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/calib/open_input_source.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/pipeline/self_samples.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Whether a run that was stopped left a calibration of the model's own text there: with inputs missing, or
/// with statistics of outputs missing that were begun. `samples` are those that would be made now.
bool is_unfinished_self(const fs::path& folder, const SampleOptions& samples, std::int64_t gradient_windows) {
  const Manifest manifest = read_manifest(folder);
  if (!manifest.source.text.starts_with(kSelf)) return false;
  if (std::ssize(manifest.blocks) < manifest.layers) return true;
  return gradient_windows > 0 && !manifest.has_outputs() && manifest.source.options == samples;
}

SampleOptions resolved(const CalibrationOptions& options, const ModelConfig& config) {
  return uses_self(options) ? resolve_self(options.samples, config.max_positions)
                            : resolve(options.samples, config.max_positions);
}

std::vector<fs::path> files_of(const CalibrationOptions& options) {
  return {options.text.begin(), options.text.end()};
}

// Where scales matter most among what people use: few bits, the usual group.
constexpr std::string_view kScalesScheme = "rtn:b3g128";

}  // namespace

bool is_self(std::span<const std::string> text) {
  if (std::ranges::find(text, kSelf) == text.end()) return false;
  if (text.size() > 1)
    throw UsageError(
        "text of the model's own does not mix with files: give self alone (a file of that name is "
        "./self)");
  return true;
}

bool uses_self(const CalibrationOptions& options) { return options.text.empty() || is_self(options.text); }

Precision precision_of(const CalibrationOptions& options) {
  return options.precision == "fp32" ? Precision::fp32 : Precision::bf16;
}

void check_calibration_options(const CalibrationOptions& options) {
  static_cast<void>(is_self(options.text));
  if (options.precision != "fp32" && options.precision != "bf16")
    throw UsageError(fmt::format("precision {}: give bf16 or fp32", options.precision));
  if (!options.text.empty() || options.folder.empty() || fs::is_regular_file(options.folder) ||
      has_calibration(options.folder))
    return;
  throw UsageError(
      fmt::format("{}: holds no calibration: give --text FILE or --text self to make one", options.folder));
}

void check_texts(Session& session, const CalibrationOptions& options) {
  if (!uses_self(options)) static_cast<void>(session.text(files_of(options)));
}

void plan_texts(OutputPlan& plan, std::span<const std::string> text) {
  for (const std::string& file : text)
    if (file != kSelf) plan.reads("the text", file);
}

void plan_calibration(OutputPlan& plan, const CalibrationOptions& options) {
  plan_texts(plan, options.text);
  if (options.folder.empty()) return;
  if (options.text.empty() || fs::is_regular_file(options.folder)) {
    plan.reads("the calibration", options.folder);
  } else {
    check_calibration_place(plan.workspace(options.folder));
  }
}

FoundInputs::FoundInputs(Session& session, const CalibrationOptions& options, const fs::path& default_folder)
    : session_(session),
      precision_(precision_of(options)),
      folder_(options.folder.empty() ? default_folder : fs::path(options.folder)) {
  check_calibration_options(options);
  if (fs::is_regular_file(folder_)) {
    if (!options.text.empty())
      throw UsageError(
          fmt::format("{}: is a file with statistics; --text goes with a folder", folder_.string()));
    there_ = open_input_source(folder_, session.config(), session.fingerprint());
    for (const std::string& note : there_->notes()) session.listener().note(note);
    return;
  }
  const SampleOptions samples = resolved(options, session.config());
  gradient_windows_ = gradient_windows_of(options, samples);
  if (options.text.empty() && has_calibration(folder_) &&
      !is_unfinished_self(folder_, samples, gradient_windows_)) {
    auto calibration = std::make_unique<Calibration>(Calibration::open(folder_));
    require_same_model(*calibration, session.fingerprint());
    there_ = std::move(calibration);
  } else {
    samples_ = std::make_unique<Samples>(calibration_samples(session, options));
    // Those that are there are used.
    if (gradient_windows_ == 0 && has_calibration(folder_)) {
      const Manifest there = read_manifest(folder_);
      if (there.has_outputs() && there.tokens_hash == samples_->hash)
        gradient_windows_ = there.outputs->windows;
    }
  }
}

FoundInputs::FoundInputs(FoundInputs&&) noexcept = default;
FoundInputs::~FoundInputs() = default;

void FoundInputs::forget_outputs() {
  forgets_outputs_ = true;
  gradient_windows_ = 0;
  if (auto* calibration = dynamic_cast<Calibration*>(there_.get())) calibration->forget_outputs();
}

std::string FoundInputs::identity() const {
  if (there_) return there_->identity();
  return calibration_identity({session_.fingerprint(), samples_->text, samples_->options, precision_},
                              samples_->hash, gradient_windows_);
}

std::unique_ptr<InputSource> FoundInputs::get() {
  if (there_) return std::move(there_);
  auto made = std::make_unique<Calibration>(
      make_calibration(session_, *samples_, precision_, folder_, false, gradient_windows_));
  if (forgets_outputs_) made->forget_outputs();
  for (const std::string& note : made->notes()) session_.listener().note(note);
  return made;
}

Calibration make_calibration(Session& session, const Samples& samples, Precision precision,
                             const fs::path& folder, bool replace, std::int64_t gradient_windows) {
  // A whole model that is in memory is gone through there, another one block by block.
  if (Decoder* decoder = session.loaded_decoder(precision))
    return calibrate(*decoder, session.fingerprint(), samples, folder, replace, session.listener(),
                     gradient_windows);
  const auto backend = make_backend({.precision = precision});
  return calibrate(session.checkpoint(), session.config(), session.fingerprint(), samples, *backend, folder,
                   replace, session.listener(), gradient_windows);
}

std::int64_t gradient_windows_of(const CalibrationOptions& options, const SampleOptions& samples) {
  if (!options.fisher || options.fisher_tokens <= 0) return 0;
  return std::min((options.fisher_tokens + samples.window - 1) / samples.window, samples.samples);
}

Samples calibration_samples(Session& session, const CalibrationOptions& options, std::int64_t most_tokens) {
  SampleOptions samples = resolved(options, session.config());
  if (most_tokens != 0)
    samples.samples = std::clamp<std::int64_t>(most_tokens / samples.window, 1, samples.samples);
  if (uses_self(options))
    return self_samples(session, precision_of(options), samples, SelfTextUse::calibration);
  return sample_windows(session.text(files_of(options)), session.tokenizer(), samples);
}

std::string scales_origin(const InputSource& inputs) {
  return folding_origin(inputs, parse_scheme(kScalesScheme));
}

Folding find_scales(Session& session, const InputSource& inputs, const CalibrationOptions& options) {
  const auto backend = make_backend({.precision = precision_of(options)});
  const Samples samples = calibration_samples(session, options, kFoldingTokens);
  return find_folding(session.checkpoint(), session.config(), session.fingerprint(), inputs, samples,
                      parse_scheme(kScalesScheme), *backend, session.listener());
}

bool wants_folding(std::span<const MatrixScheme> allocation) {
  return std::ranges::any_of(allocation, [](const MatrixScheme& one) { return one.scheme.method == "awq"; });
}

bool wants_folding(std::span<const Scheme> schemes) {
  return std::ranges::any_of(schemes, [](const Scheme& scheme) { return scheme.method == "awq"; });
}

}  // namespace knapsaq
