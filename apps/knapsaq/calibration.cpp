#include "calibration.h"

#include <algorithm>

#include <fmt/core.h>

#include "command.h"
#include "knapsaq/bank/find_folding.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/error.h"
#include "knapsaq/calib/manifest.h"
#include "knapsaq/calib/open_input_source.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq::command {
namespace {

/// Whether a run that was stopped left a calibration of the model's own text there.
bool is_unfinished_self(const std::filesystem::path& folder) {
  const Manifest manifest = read_manifest(folder);
  return std::ssize(manifest.blocks) < manifest.layers && manifest.source.text.starts_with(kSelf);
}

}  // namespace

void add_calibration_options(Verb verb, CalibrationOptions& options, bool with_folder,
                             const std::string& seed) {
  if (with_folder)
    verb.option("--calibration", options.folder,
                "Folder of `knapsaq calibrate`, made there from --text if it does not exist; or an "
                "imatrix file of "
                "llama.cpp")
        .not_empty();
  verb.option("--text", options.text,
              "Calibration text: files (plain UTF-8, or JSONL with a field text, .jsonl), or the word "
              "self for text that the model itself samples; default: a calibration that is there, or self");
  verb.option("--samples", options.samples.samples, "Calibration windows, at random places of the text")
      .range(0)
      .show_default();
  verb.option("--window", options.samples.window,
              "Tokens in a calibration window; default: 2048 (self: 512), or what the model can see if "
              "that is less")
      .range(0);
  verb.option(seed, options.samples.seed, "Seed of the places, or of the sampling").range(0).show_default();
  verb.option("--precision", options.precision, "Arithmetic of the forward pass: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
}

bool is_self(std::span<const std::string> text) {
  if (std::ranges::find(text, kSelf) == text.end()) return false;
  if (text.size() > 1)
    throw UsageError(
        "text of the model's own does not mix with files: give self alone (a file of that name is "
        "./self)");
  return true;
}

void check_calibration_options(const CalibrationOptions& options) {
  static_cast<void>(is_self(options.text));
  if (!options.text.empty() || options.folder.empty() || std::filesystem::is_regular_file(options.folder) ||
      has_calibration(options.folder))
    return;
  throw UsageError(
      fmt::format("{}: holds no calibration: give --text FILE or --text self to make one", options.folder));
}

void check_texts(const CalibrationOptions& options) {
  if (options.text.empty() || is_self(options.text)) return;
  const std::vector<std::filesystem::path> files(options.text.begin(), options.text.end());
  static_cast<void>(read_calibration_text(files));
}

void plan_texts(OutputPlan& plan, std::span<const std::string> text) {
  for (const std::string& file : text)
    if (file != kSelf) plan.reads("the text", file);
}

void plan_calibration(OutputPlan& plan, const CalibrationOptions& options) {
  plan_texts(plan, options.text);
  if (options.folder.empty()) return;
  if (options.text.empty() || std::filesystem::is_regular_file(options.folder)) {
    plan.reads("the calibration", options.folder);
  } else {
    check_calibration_place(plan.workspace(options.folder));
  }
}

FoundInputs::FoundInputs(const Checkpoint& checkpoint, const ModelConfig& config,
                         std::string_view fingerprint, const CalibrationOptions& options,
                         const std::filesystem::path& default_folder)
    : checkpoint_(checkpoint),
      config_(config),
      fingerprint_(fingerprint),
      folder_(options.folder.empty() ? default_folder : std::filesystem::path(options.folder)) {
  check_calibration_options(options);
  if (std::filesystem::is_regular_file(folder_)) {
    if (!options.text.empty())
      throw UsageError(
          fmt::format("{}: is a file with statistics; --text goes with a folder", folder_.string()));
    there_ = open_input_source(folder_, config, fingerprint);
    for (const std::string& note : there_->notes()) fmt::print(stderr, "note: {}\n", note);
  } else if (options.text.empty() && has_calibration(folder_) && !is_unfinished_self(folder_)) {
    auto calibration = std::make_unique<Calibration>(Calibration::open(folder_));
    require_same_model(*calibration, fingerprint);
    there_ = std::move(calibration);
  } else {
    backend_ = calibration_backend(options);
    samples_ = calibration_samples(checkpoint, config, options, *backend_);
  }
}

std::string FoundInputs::identity() const {
  if (there_) return there_->identity();
  return calibration_identity({fingerprint_, samples_->text, samples_->options, backend_->precision()},
                              samples_->hash);
}

std::unique_ptr<InputSource> FoundInputs::get() {
  if (there_) return std::move(there_);
  return std::make_unique<Calibration>(
      calibrate(checkpoint_, config_, fingerprint_, *samples_, *backend_, folder_, false, progress()));
}

Samples calibration_samples(const Checkpoint& checkpoint, const ModelConfig& config,
                            std::span<const std::string> text, SampleOptions options, Backend& backend,
                            std::int64_t most_tokens) {
  const bool self = text.empty() || is_self(text);
  options = self ? resolve_self(options, config.max_positions) : resolve(options, config.max_positions);
  if (most_tokens != 0)
    options.samples = std::clamp<std::int64_t>(most_tokens / options.window, 1, options.samples);
  if (self) return self_text(checkpoint, config, backend, options, SelfTextUse::calibration, progress());
  const std::vector<std::filesystem::path> files(text.begin(), text.end());
  return sample_windows(read_calibration_text(files), Tokenizer::load(checkpoint.folder()), options);
}

Samples calibration_samples(const Checkpoint& checkpoint, const ModelConfig& config,
                            const CalibrationOptions& options, Backend& backend, std::int64_t most_tokens) {
  return calibration_samples(checkpoint, config, options.text, options.samples, backend, most_tokens);
}

std::unique_ptr<Backend> calibration_backend(const CalibrationOptions& options) {
  return make_cpu_backend(options.precision == "fp32" ? Precision::fp32 : Precision::bf16);
}

namespace {

// Where scales matter most among what people use: few bits, the usual group.
constexpr std::string_view kScalesScheme = "rtn:b3g128";

}  // namespace

std::string scales_origin(const InputSource& inputs) {
  return folding_origin(inputs, parse_scheme(kScalesScheme));
}

Folding find_scales(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                    const InputSource& inputs, const CalibrationOptions& options) {
  const Scheme scheme = parse_scheme(kScalesScheme);
  const auto backend = calibration_backend(options);
  const Samples samples = calibration_samples(checkpoint, config, options, *backend, kFoldingTokens);
  return find_folding(checkpoint, config, fingerprint, inputs, samples, scheme, *backend, progress());
}

bool wants_folding(std::span<const MatrixScheme> allocation) {
  std::vector<Scheme> schemes;
  for (const MatrixScheme& one : allocation) schemes.push_back(one.scheme);
  return wants_folding(schemes);
}

bool wants_folding(std::span<const Scheme> schemes) {
  return std::ranges::any_of(schemes, [](const Scheme& scheme) { return scheme.method == "awq"; });
}

}  // namespace knapsaq::command
