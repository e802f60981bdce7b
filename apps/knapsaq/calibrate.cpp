#include "knapsaq/pipeline/calibrate.h"

#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "calibration_flags.h"
#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/family/config.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  CalibrateOptions calibrate;
};

void run(const Options& options) {
  Environment environment(environment_options(options.common));
  Session session(environment, options.model, Session::Weights::decoded);
  const CalibrateResult result = knapsaq::calibrate(session, options.calibrate);

  const std::string& precision = options.calibrate.calibration.precision;
  if (options.common.json) {
    print({{"model", options.model},
           {"output", options.calibrate.output},
           {"fingerprint", result.fingerprint},
           {"text", result.text},
           {"samples", result.samples.samples},
           {"window", result.samples.window},
           {"seed", result.samples.seed},
           {"tokens", result.tokens},
           {"precision", precision},
           {"identity", result.identity},
           {"seconds", result.seconds}});
    return;
  }
  fmt::print("{}: {} tokens in {} samples of {}, {} blocks, {}, {}\n", options.calibrate.output,
             result.tokens, result.samples.samples, result.samples.window, session.config().layers, precision,
             format_seconds(result.seconds));
}

}  // namespace

void add_calibrate(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb =
      app.add("calibrate", "Measure what a model's linears see on a text, or on text of its own");
  verb.option("model", options->model, "Model folder in Hugging Face layout or GGUF file").required();
  verb.option("-o,--output", options->calibrate.output,
              "Folder to write; a killed run goes on where it was when it is repeated")
      .required();
  add_calibration_flags(verb, options->calibrate.calibration, false);
  verb.option("--imatrix", options->calibrate.imatrix,
              "Also write the mean squares as an imatrix file of llama.cpp (.gguf)")
      .not_empty();
  verb.flag("--force", options->calibrate.force,
            "Replace the calibration in the output folder, and the imatrix file");
  add_common(verb, options->common);
  verb.example(
      "knapsaq calibrate MODEL -o CALIBRATION\n  knapsaq calibrate MODEL --text wiki.train.raw "
      "--samples 128 --window 2048 -o CALIBRATION");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
