#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "calibration.h"
#include "knapsaq/bank/build_bank.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/config.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq::command {

/// What a bank is built with.
struct BankOptions {
  std::string menu = "mxq";
  std::string method;             ///< for the menu's affine schemes; empty: the menu's own
  std::vector<std::string> keep;  ///< patterns of what is not quantized (select_matrices())
  bool ends = true;               ///< embedding and head are
  std::string engine;             ///< what has to load them (find_engine()); empty: nobody else
  bool wants_inputs = false;      ///< statistics of the inputs, also where the menu can do without
  CalibrationOptions calibration;
};

/// The menu with the method, as the engine takes it. Throws UsageError for what a method cannot do, or the
/// engine.
Menu menu_of(const BankOptions& options);
/// What is quantized.
Selection selection_of(const BankOptions& options, const ModelConfig& config);

/// Tells the plan what is read, and where a calibration is made, for a bank in `folder`.
void plan_bank(OutputPlan& plan, const BankOptions& options, const std::filesystem::path& folder);

/// Builds the bank in `folder`, or goes on with it, with the calibration that it needs. `model` is the
/// fingerprint of the checkpoint.
BankReport make_bank(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view model,
                     const BankOptions& options, const std::filesystem::path& folder);

}  // namespace knapsaq::command
