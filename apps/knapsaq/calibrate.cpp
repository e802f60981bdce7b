#include <chrono>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "calibration.h"
#include "command.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/units.h"
#include "knapsaq/calib/imatrix.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string output;
  std::string imatrix;
  CalibrationOptions calibration;
  bool force = false;
};

/// That a model has no imatrix is said before it is calibrated, not after it.
void check_imatrix(const Options& options, const ModelConfig& config) {
  if (options.imatrix.empty()) return;
  for (const Matrix& linear : matrices(config))
    if (!gguf_module(linear.name))
      throw UsageError(fmt::format(
          "{}: GGUF has no name for the linear {}, so no imatrix can hold it: leave --imatrix out",
          options.model, linear.name));
}

void run(const Options& options) {
  start(options.common);
  OutputPlan plan;
  plan.reads("the model", options.model);
  plan_texts(plan, options.calibration.text);
  const std::filesystem::path folder = plan.workspace(options.output);
  check_calibration_place(folder);
  std::filesystem::path imatrix;
  if (!options.imatrix.empty()) imatrix = plan.file(options.imatrix, options.force, is_own_gguf);
  const auto begin = std::chrono::steady_clock::now();
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = model_config(checkpoint);
  check_shapes(checkpoint, config);
  check_imatrix(options, config);
  const auto backend = calibration_backend(options.calibration);
  // Text that is too short is refused before the model is read.
  const Samples samples = calibration_samples(checkpoint, config, options.calibration, *backend);
  const std::string id = fingerprint(checkpoint, progress());
  const Calibration calibration =
      calibrate(checkpoint, config, id, samples, *backend, folder, options.force, progress());
  const bool own = options.calibration.text.empty() || is_self(options.calibration.text);
  if (!options.imatrix.empty())
    write_imatrix(calibration, config,
                  {.datasets = own ? std::vector<std::string>{samples.text} : options.calibration.text,
                   .chunks = static_cast<std::uint32_t>(samples.options.samples),
                   .chunk_size = static_cast<std::uint32_t>(samples.options.window)},
                  imatrix);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    print({{"model", options.model},
           {"output", options.output},
           {"fingerprint", id},
           {"text", samples.text},
           {"samples", samples.options.samples},
           {"window", samples.options.window},
           {"seed", samples.options.seed},
           {"tokens", samples.tokens.size()},
           {"precision", options.calibration.precision},
           {"identity", calibration.identity()},
           {"seconds", seconds}});
    return;
  }
  fmt::print("{}: {} tokens in {} samples of {}, {} blocks, {}, {}\n", options.output, samples.tokens.size(),
             samples.options.samples, samples.options.window, config.layers, options.calibration.precision,
             format_seconds(seconds));
}

}  // namespace

void add_calibrate(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("calibrate", "Measure what a model's linears see on a text, or on text of its own");
  verb.option("model", options->model, "Model folder in Hugging Face layout").required();
  verb.option("-o,--output", options->output,
              "Folder to write; a killed run goes on where it was when it is repeated")
      .required();
  add_calibration_options(verb, options->calibration, false);
  verb.option("--imatrix", options->imatrix,
              "Also write the mean squares as an imatrix file of llama.cpp (.gguf)")
      .not_empty();
  verb.flag("--force", options->force, "Replace the calibration in the output folder, and the imatrix file");
  add_common(verb, options->common);
  verb.example(
      "knapsaq calibrate MODEL -o CALIBRATION\n  knapsaq calibrate MODEL --text wiki.train.raw "
      "--samples 128 --window 2048 -o CALIBRATION");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
