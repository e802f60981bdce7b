#pragma once

// What `search`, `fit` and `study` share: the options that a run is made with, and making or finding it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "calibration.h"
#include "knapsaq/search/run.h"
#include "knapsaq/search/run_search.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq::command {

struct RunOptions {
  std::string model;
  std::string run;               ///< --run, as it was given
  std::filesystem::path folder;  ///< canonical, of plan_run()
  std::string bank;              ///< --bank; empty: one in the run's folder
  /// All groups, too: at 3 bits per weight the choice of groups takes a third off the divergence.
  std::string menu;    ///< empty: "affine", or the engine's
  std::string method;  ///< empty: "gptq", or the engine's
  std::string ties;    ///< empty: "none", or the engine's
  std::string engine;  ///< --for
  std::vector<std::string> pins;
  std::vector<std::string> keep;  ///< patterns of what is not quantized
  /// Embedding and head are as stored: what average bits per weight (--bits) are about, as in the papers.
  bool keep_ends = false;
  CalibrationOptions calibration;  ///< text, samples, window, seed, precision: of the bank, and of the tokens
  std::int64_t tokens = 8192;
  std::int64_t heldout = 16384;
  std::string divergence = "kl";
  std::vector<Option> defining;  ///< those of them that decide about what a run is of
};

/// Everything but the model and --run.
void add_run_options(Verb verb, RunOptions& options);

/// Tells the plan what a run reads, and where it is. What is in the folder is a run, or the beginning of one.
void plan_run(OutputPlan& plan, RunOptions& options);

/// The run of the folder, if there is one and no option says what it is of; else one that is made as the
/// options say, with its bank, or gone on with if it is the same. `check` sees the search space before any
/// work is done (local errors are not known then), with the weights of the whole model, and throws for what
/// cannot be done in it. Throws UsageError for a folder with another run.
using SpaceCheck = std::function<void(const SearchSpace& space, std::int64_t parameters)>;
Run find_run(const RunOptions& options, const SpaceCheck& check);

/// A budget as users give it: --budget in bytes of the files, --bpw in bits of the files per weight of the
/// model, or --bits per quantized weight.
struct BudgetOptions {
  std::string bytes;
  double bits_of_files = 0;
  double bits = 0;
  bool given() const { return !bytes.empty() || bits > 0 || bits_of_files > 0; }
};
void add_budget_options(Verb verb, BudgetOptions& options);
/// Bytes of the files, or of the linears where bits are given. Throws UsageError unless one of them is given,
/// InfeasibleError if nothing fits.
/// `parameters`: weights of the whole model.
Budget parse_budget(const BudgetOptions& options, const SearchSpace& space, std::int64_t parameters);

/// Which search: strategy, its options, how much of it.
struct SearchOptions {
  std::string strategy = "front";
  std::vector<std::string> set;  ///< --set name=value
  std::int64_t evaluations = 0;
  std::uint64_t seed = 0;
  std::string goal;
  bool faithful = false;  ///< --amq-faithful
};
void add_search_options(Verb verb, SearchOptions& options, bool with_strategy);

/// Throws UsageError for unknown strategies, and for options, goals and budgets that the strategy cannot use
/// in this space.
void check_search(const SearchOptions& options, const SearchSpace& space, std::optional<Budget> budget);
/// Throws UsageError unless the run in the folder has begun this search. Changes nothing.
void require_search(const std::filesystem::path& folder, const SearchOptions& options,
                    const SearchSpace& space, std::optional<Budget> budget);
/// Runs the search, showing how it goes.
SearchReport run_search(Run& run, Evaluator& evaluator, const SearchOptions& options,
                        std::optional<Budget> budget);

}  // namespace knapsaq::command
