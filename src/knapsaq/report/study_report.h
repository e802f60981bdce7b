#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/search/space.h"
#include "knapsaq/search/study.h"

namespace knapsaq {

/// A study as JSON; study.json holds exactly this, indented by one space. Numbers that do not exist (a curve
/// before its first value) are null. Small is better for every goal; whoever draws multiplies goal values by
/// `goal.sign` and labels them with `goal.label`.
///
///     format        "knapsaq-study"
///     version       1
///     goal          object:
///       name          "paper" or "budget"
///       label         for an axis: "fitness 1000 / (perplexity x sum of bits)" or "KL divergence, nats"
///       sign          -1 if the label names the negative goal value (paper: fitness, higher is better), else
///       1
///     divergence    "kl" or "jsd": what `divergence` means below
///     budget        most bytes of an allocation; null: none
///     budget_of     what they are of: "files" or "linears"; null: none
///     evaluations   questions of every run = length of every curve
///     repeats       runs of every strategy
///     seed          of the first run; run r has seed + r
///     tokens        scored tokens behind every perplexity and divergence of the runs
///     variables     array, what is decided about, in order: {name, block, parameters, bits}; bits: array of
///                   b1 for each level, ascending by bytes
///     strategies    array of objects:
///       name          "ga"
///       options       "population=10 epochs=10 ..."
///       runs          array: {seed, curve, levels, bits, goal, fitness, perplexity, divergence, agreement,
///                     sum_bits, bits_per_weight, linear_bytes, bytes, distinct, full_passes, seconds}
///         curve         least goal value after each question: `evaluations` numbers or nulls
///         levels        chosen level of each variable; bits: its b1. So bits[variable] by strategies' runs
///         is
///                       the picture of final allocations
///         goal          last of curve; fitness: the paper's, positive, whatever the goal
///         distinct      different points asked; full_passes: their cost in passes over the whole token set
///       summary       {goal, fitness, perplexity, divergence, sum_bits, full_passes}, each a spread over the
///                     runs: {count, mean, deviation, minimum, lower, median, upper, maximum}
///       band          spread of the curves at each question, as arrays of `evaluations` numbers or nulls:
///                     {mean, deviation, minimum, lower, median, upper, maximum}; lower and upper: quartiles
///     tests         array, one for each pair of strategies, on the runs' goal values:
///       a, b          names (with the position in `strategies` behind '#' if a name appears twice: "ga#1")
///       rank_sum      {z, p}: Wilcoxon's rank-sum test as scipy.stats.ranksums
///       holm          that p, adjusted for all pairs
///       mann_whitney  {u, p, exact}
///       a_better      probability that a run of a ends better than one of b (Vargha-Delaney)
///       rank_biserial 2 a_better - 1
///     baselines     array: {name, bits_per_weight, bytes, sum_bits, perplexity, fitness, divergence or null}
nlohmann::json study_json(const Study& study, const SearchSpace& space);

/// The file of study_json() in a study's folder.
inline constexpr std::string_view kStudyName = "study.json";

/// Writes into `folder`, which must exist: study.json; runs.csv (a row for each run and each baseline),
/// curves.csv (strategy, seed, question, goal), tests.csv (a row for each pair). Each file whole or not at
/// all. Throws IoError.
void write_study(const Study& study, const SearchSpace& space, const std::filesystem::path& folder);

/// For people: strategies and baselines in one table, then the tests.
std::string study_table(const Study& study);

}  // namespace knapsaq
