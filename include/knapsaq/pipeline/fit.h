#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "knapsaq/pipeline/search.h"
#include "knapsaq/pipeline/written_model.h"

namespace knapsaq {

struct FitOptions {
  std::string output;  ///< folder, or the engine's file
  BudgetOptions budget;
  std::string run;     ///< folder of bank and archive, kept for other budgets; empty: output + ".run"
  std::string report;  ///< page about the run; empty: report.html in the run's folder
  RunOptions of;
  StrategyOptions search;
  std::string effort = "normal";  ///< parse_effort(): what is spent on codes and tuning after the search
  bool force = false;             ///< replace the output
};

struct FitResult {
  WrittenModel model;
  SearchSummary search;
  std::string run;     ///< as it was given, or made up
  std::string report;  ///< as it was given, or made up
  /// The budget as asked for: bytes of all files (with a context, of all memory), or none where it was bits
  /// per weight of the linears.
  std::optional<std::uint64_t> budget_bytes;
  double seconds = 0;
};

/// All of it: calibrates, quantizes every matrix in every scheme, searches, judges the best within the budget
/// and the best uniform model on held-out text, and writes the better one, with the codes and the tuning that
/// the effort asks for. What is finished is kept in the
/// run's folder: after a kill the same call goes on. Throws UsageError for what cannot be, before any work;
/// InfeasibleError naming the smallest size; Cancelled.
FitResult fit(Session& session, const FitOptions& options);

}  // namespace knapsaq
