#include "calibration_flags.h"

namespace knapsaq::command {

void add_calibration_flags(Verb verb, CalibrationOptions& options, bool with_folder,
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
  if (!options.fisher)
    verb.flag("--fisher", options.fisher,
              "Fisher information too: a backward pass tells which outputs matter (docs/bank.md)");
  verb.option("--fisher-tokens", options.fisher_tokens,
              "Tokens that it is estimated from, in whole windows; 0: none")
      .range(0)
      .show_default();
  verb.option("--precision", options.precision, "Arithmetic of the forward pass: bf16 or fp32")
      .one_of({"bf16", "fp32"})
      .show_default();
}

}  // namespace knapsaq::command
