#include "calibration.h"

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "command.h"
#include "knapsaq/bank/find_folding.h"
#include "knapsaq/base/error.h"
#include "knapsaq/calib/open_input_source.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq::command {

void add_calibration_options(CLI::App& verb, CalibrationOptions& options, bool with_folder) {
  if (with_folder)
    verb.add_option(
        "--calibration", options.folder,
        "Folder of `knapsaq calibrate`, made there from --text if it does not exist; or an imatrix file of "
        "llama.cpp");
  verb.add_option("--text", options.text,
                  "Calibration text: plain UTF-8, or JSONL with a field text (.jsonl)");
  verb.add_option("--samples", options.samples.samples, "Calibration windows, at random places of the text")
      ->capture_default_str();
  verb.add_option("--window", options.samples.window,
                  "Tokens in a calibration window; default: 2048, or what the model can see");
  verb.add_option("--seed", options.samples.seed, "Seed of the places")->capture_default_str();
  verb.add_option("--precision", options.precision, "Arithmetic of the forward pass: bf16 or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
}

Calibration find_calibration(const Checkpoint& checkpoint, const ModelConfig& config,
                             std::string_view fingerprint, const CalibrationOptions& options,
                             const std::filesystem::path& default_folder, std::string_view need) {
  const std::filesystem::path folder =
      options.folder.empty() ? default_folder : std::filesystem::path(options.folder);
  if (options.text.empty()) {
    if (!has_calibration(folder)) {
      if (!options.folder.empty())
        throw UsageError(
            fmt::format("{}: holds no calibration: give --text FILE to make one", options.folder));
      throw UsageError(
          fmt::format("{} needs a calibration: give --text FILE, or --calibration FOLDER", need));
    }
    Calibration calibration = Calibration::open(folder);
    require_same_model(calibration, fingerprint);
    return calibration;
  }
  const auto backend = calibration_backend(options);
  return calibrate(checkpoint, config, fingerprint, calibration_samples(checkpoint, config, options, need),
                   *backend, folder, false, progress());
}

std::unique_ptr<InputSource> find_inputs(const Checkpoint& checkpoint, const ModelConfig& config,
                                         std::string_view fingerprint, const CalibrationOptions& options,
                                         const std::filesystem::path& default_folder, std::string_view need) {
  if (!std::filesystem::is_regular_file(options.folder))
    return std::make_unique<Calibration>(
        find_calibration(checkpoint, config, fingerprint, options, default_folder, need));
  if (!options.text.empty())
    throw UsageError(fmt::format("{}: is a file with statistics; --text goes with a folder", options.folder));
  return open_input_source(options.folder, config, fingerprint);
}

Samples calibration_samples(const Checkpoint& checkpoint, const ModelConfig& config,
                            const CalibrationOptions& options, std::string_view need,
                            std::int64_t most_tokens) {
  if (options.text.empty()) throw UsageError(fmt::format("{} needs a text: give --text FILE", need));
  const std::vector<std::filesystem::path> files(options.text.begin(), options.text.end());
  SampleOptions samples = resolve(options.samples, config.max_positions);
  if (most_tokens != 0)
    samples.samples = std::clamp<std::int64_t>(most_tokens / samples.window, 1, samples.samples);
  return sample_windows(read_calibration_text(files), Tokenizer::load(checkpoint.folder()), samples);
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
  const Samples samples = calibration_samples(checkpoint, config, options, "method awq", kFoldingTokens);
  const auto backend = calibration_backend(options);
  return find_folding(checkpoint, config, fingerprint, inputs, samples, scheme, *backend, progress());
}

bool wants_folding(std::span<const Scheme> schemes) {
  return std::ranges::any_of(schemes, [](const Scheme& scheme) { return scheme.method == "awq"; });
}

}  // namespace knapsaq::command
