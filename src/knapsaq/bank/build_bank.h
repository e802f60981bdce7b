#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "knapsaq/bank/bank_folder.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// The sources of a bank besides the checkpoint.
struct BankRecipe {
  std::string model;  ///< fingerprint() of the checkpoint
  Menu menu;
  /// The content of the bank: some of matrices(config), in that order.
  std::vector<Matrix> matrices;
  /// Statistics of their inputs; null if there are none, and errors weighted by them are then unknown.
  const InputSource* inputs = nullptr;
  /// Scales that are folded into the weights before they are quantized; null if there are none. The
  /// statistics are those of the inputs without folding. Errors weighted by inputs are those of the model's
  /// outputs, which folding does not change. The other errors are those of the folded weights and cannot be
  /// compared between linears.
  const Folding* folding = nullptr;
};

/// Throws UsageError for a scheme that its method does not support and for missing statistics. build_bank()
/// checks this too; call this function first if other work precedes it.
void check_recipe(const BankRecipe& recipe);

/// Throws InputError, naming the first one, if some of `matrices` are already quantized.
void check_full_precision(const Checkpoint& checkpoint, std::span<const Matrix> matrices);

struct BankReport {
  std::size_t linears = 0;
  std::size_t schemes = 0;  ///< in the menu
  std::size_t kept = 0;     ///< of these, finished by an earlier run
  std::size_t damaged = 0;  ///< found damaged and rebuilt
  std::uint64_t bytes = 0;  ///< of the linears' files
  double seconds = 0;
};

/// Quantizes every matrix of the recipe by every scheme and keeps it, with its errors, in `folder`. A
/// linear's file appears when the linear is finished. A killed run continues, after it has read and checked
/// the existing files. The bank's bytes depend neither on the number of threads nor on interruptions.
///
/// In memory at a time: one linear's weights as floats, the statistics of its input, and one scheme's codes.
/// Throws UsageError for a scheme that its method does not support, for missing statistics, and for a folder
/// that holds another bank; InputError, naming the tensor, for weights that cannot be quantized; Cancelled.
BankReport build_bank(const Checkpoint& checkpoint, const BankRecipe& recipe, const BankFolder& folder,
                      Progress& progress = Progress::none());

}  // namespace knapsaq
