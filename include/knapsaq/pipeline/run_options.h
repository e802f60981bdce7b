#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/pipeline/calibrate.h"

namespace knapsaq {

/// What a run is of: the space that is searched, and the texts that candidates are measured on.
struct RunOptions {
  std::string bank;    ///< folder of make_bank(); empty: one in the run's folder
  std::string menu;    ///< schemes to choose from; empty: "affine" (2 to 8 bits in groups), or the engine's
  std::string method;  ///< for the menu's affine schemes; empty: "gptq", or the engine's
  std::string ties;    ///< "none", "qkv", "gate-up", "vllm", "layer"; empty: "none", or the engine's
  std::string engine;  ///< what has to load the result ("llama.cpp", "mlx", ..); empty: Knapsaq alone
  std::vector<std::string> pins;  ///< constraints: "PATTERN=SCHEME", "PATTERN>=BITS" or "PATTERN<=BITS"
  std::vector<std::string> keep;  ///< patterns of matrices that are not quantized
  /// Text, windows, seed and precision, of the bank's calibration and of the tokens that are measured on.
  /// With Fisher information, which tells searches what to measure first.
  CalibrationOptions calibration = {.folder = {},
                                    .text = {},
                                    .samples = {},
                                    .fisher = true,
                                    .fisher_tokens = kFisherTokens,
                                    .precision = "bf16"};
  std::int64_t tokens = 8192;     ///< that an allocation is measured on
  std::int64_t heldout = 16384;   ///< tokens that the result is judged by, unseen before
  std::string divergence = "kl";  ///< "kl", or "jsd" as AMQ measures
  /// An existing run may be gone on with, whatever it is of: the options above are then not looked at.
  /// Without it the folder has to hold a run of exactly these options, or none.
  bool any_run = false;
};

}  // namespace knapsaq
