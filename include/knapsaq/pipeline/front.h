#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "knapsaq/pipeline/allocation.h"
#include "knapsaq/pipeline/environment.h"

namespace knapsaq {

/// What of a run's findings is asked for.
struct FrontOptions {
  std::string run;                    ///< folder of a run, also of one that is being written
  std::string model;                  ///< where the model is now; empty: where it was
  std::string strategy;               ///< only of searches with this strategy; empty: all
  std::optional<std::uint64_t> seed;  ///< only of searches with this seed
};

/// How far some searches have come together.
struct FrontSummary {
  std::int64_t evaluations = 0;
  double full_passes = 0;
  double hypervolume = 0;  ///< normalised between the space's smallest and largest point; 0: not measured yet
  /// The hypervolume's reference point: bits of the largest point, divergence of the smallest.
  std::optional<std::pair<double, double>> reference;
};

struct FrontResult {
  struct Point {
    std::uint64_t bytes = 0;  ///< of the files that would be written
    double bits = 0;          ///< average per quantized weight, metadata included
    double divergence = 0;    ///< mean per token, nats
    double perplexity = 0;
    double agreement = 0;  ///< share of tokens whose most likely next token is the full model's
    std::string strategy;  ///< that asked for it first
    std::vector<NamedScheme> allocation;
    std::vector<SchemeCount> counts;
  };
  struct Search {
    std::string strategy;
    std::uint64_t seed = 0;
    std::string options;
    bool finished = false;
    FrontSummary found;
  };
  std::string divergence;        ///< "kl" or "jsd"
  FrontSummary all;              ///< of the searches that were asked for
  std::vector<Point> points;     ///< their Pareto front, ascending by size
  std::vector<Search> searches;  ///< all searches of the run
};

/// Throws UsageError for a folder without a run, or without such a search.
FrontResult front(Environment& environment, const FrontOptions& options);

}  // namespace knapsaq
