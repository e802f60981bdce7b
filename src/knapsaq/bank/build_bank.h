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

/// What a bank is built from besides the checkpoint.
struct BankRecipe {
  std::string model;  ///< fingerprint() of the checkpoint
  Menu menu;
  /// What the bank holds: some of matrices(config), in that order.
  std::vector<Matrix> matrices;
  /// Statistics of their inputs; null if there are none, then errors weighted by them are unknown.
  const InputSource* inputs = nullptr;
  /// Scales that are folded into the weights before they are quantized; null if there are none. The
  /// statistics are those of the inputs without it. Errors weighted by inputs are those of the model's
  /// outputs, as without folding; the others are those of the folded weights, which cannot be compared
  /// between linears.
  const Folding* folding = nullptr;
};

/// Throws UsageError for a scheme that its method cannot do and for methods that need statistics where there
/// are none. build_bank() does it too; this is for those who have something to do before.
void check_recipe(const BankRecipe& recipe);

/// Throws InputError, naming the first one, if some of `matrices` are quantized already.
void check_full_precision(const Checkpoint& checkpoint, std::span<const Matrix> matrices);

struct BankReport {
  std::size_t linears = 0;
  std::size_t kept = 0;     ///< of these, finished by an earlier run
  std::size_t damaged = 0;  ///< found damaged and made anew
  std::uint64_t bytes = 0;  ///< of the linears' files
  double seconds = 0;
};

/// Quantizes every matrix of the recipe by every scheme and keeps it, with its errors, in `folder`. A
/// linear's file appears when the linear is finished; a run that was killed goes on where it was, after
/// reading what is there and checking it. The bank's bytes depend neither on the number of threads nor on
/// where runs were interrupted.
///
/// In memory at a time: one linear's weights as floats, the statistics of its input, and one scheme's codes.
/// Throws UsageError for a scheme that its method cannot do, for methods that need statistics where there are
/// none, and for a folder that holds another bank; InputError naming the tensor for weights that cannot be
/// quantized; Cancelled.
BankReport build_bank(const Checkpoint& checkpoint, const BankRecipe& recipe, const BankFolder& folder,
                      Progress& progress = Progress::none());

}  // namespace knapsaq
