#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/pipeline/calibrate.h"

namespace knapsaq {

/// What a bank is built with: every matrix in every scheme, once.
struct BankOptions {
  std::string menu = "mxq";       ///< schemes: "affine", "mxq", "mxq-f16", "gguf" or a list with commas
  std::string method;             ///< for the menu's affine schemes; empty: the menu's own
  std::vector<std::string> keep;  ///< patterns of matrices that are not quantized
  bool ends = true;               ///< embedding and head are quantized
  std::string engine;             ///< what has to load the result; empty: nobody else
  bool wants_inputs = false;      ///< statistics of the inputs, also where the menu can do without
  CalibrationOptions calibration;
};

struct BankResult {
  std::size_t linears = 0;  ///< matrices in the bank
  std::size_t schemes = 0;  ///< in the menu
  std::size_t kept = 0;     ///< matrices that were there already, whole
  std::size_t damaged = 0;  ///< that were there, damaged, and were made anew
  std::uint64_t bytes = 0;  ///< of all files of the bank
  double seconds = 0;
};

/// Builds the bank in the folder `output`, or goes on with it, with the calibration that it needs. Throws
/// UsageError, changing nothing, if the folder holds something else or a bank of something else; Cancelled.
BankResult make_bank(Session& session, const BankOptions& options, const std::string& output);

}  // namespace knapsaq
