#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/allocation.h"
#include "knapsaq/pipeline/budget.h"
#include "knapsaq/pipeline/calibrate.h"
#include "knapsaq/pipeline/solver_options.h"

namespace knapsaq {

/// One model, without a search: a budget that MXQ's allocation fills, one scheme for all, or a given
/// allocation.
struct QuantizeOptions {
  std::string output;  ///< folder
  // One of these three:
  BudgetOptions budget;
  std::string scheme;  ///< for every linear of the blocks, as "hqq:b4g64"
  /// File: the JSON that `knapsaq allocate --json` printed, or a recipe for llama-quantize
  /// (--tensor-type-file).
  std::string allocation;

  std::string bank;               ///< choose among and write the matrices of this bank
  std::string menu = "mxq";       ///< schemes to choose from, without a bank
  std::string table;              ///< errors from this CSV (tables()), which are measured otherwise
  std::vector<std::string> keep;  ///< patterns of matrices that are not quantized
  std::vector<std::string> pins;  ///< with `scheme`: "PATTERN=SCHEME"
  std::string cost;               ///< what is made small: "fnorm", "relative", "hessian"; empty: the usual
  std::string ties = "none";      ///< "none", "qkv", "gate-up", "vllm", "layer"; several with commas
  SolverOptions solver;
  CalibrationOptions calibration;
  bool propagate =
      false;           ///< quantize anew, stage by stage, with errors of what is quantized before corrected
  bool force = false;  ///< replace the output
};

struct QuantizeResult {
  std::filesystem::path path;
  std::uint64_t bytes = 0;                    ///< of all weight files
  double bits = 0;                            ///< average per quantized weight, metadata included
  double error = 0;                           ///< sum over the matrices of || W - Q(W) ||_F: MXQ's objective
  std::optional<std::uint64_t> budget_bytes;  ///< as asked for
  std::optional<MemoryUse> memory;            ///< where the budget was for a context: in Knapsaq itself
  /// What the solver proved; none for a given scheme or allocation.
  struct Solved {
    std::string cost;  ///< what was made small
    double objective = 0;
    double bound = 0;  ///< no allocation costs less
    double gap = 0;    ///< relative distance of the two
  };
  std::optional<Solved> solved;
  std::vector<NamedScheme> allocation;
  double seconds = 0;
};

/// Throws UsageError for what cannot be, before any work; InfeasibleError naming the smallest size;
/// Cancelled.
QuantizeResult quantize(Session& session, const QuantizeOptions& options);

}  // namespace knapsaq
