#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/eval/kl_statistics.h"
#include "knapsaq/report/task_scores.h"
#include "knapsaq/report/written_steps.h"
#include "knapsaq/search/front.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The model that a run is about. What is unknown is empty or 0 and not shown.
struct ReportModel {
  std::string name;
  std::string architecture;
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;     ///< of its files in full precision
  std::optional<double> loss;  ///< of full precision on the text of the search, nats per token
  std::optional<double> heldout_loss;
};

/// A linear, and where the heat maps show it.
struct ReportLinear {
  std::string name;
  std::int64_t block = 0;
  std::string module;  ///< "self_attn.q_proj"
  std::int64_t parameters = 0;
  std::optional<WeightStatistics> statistics;
};

/// A Variable of the search space (search/space.h).
struct ReportVariable {
  std::string name;
  std::vector<std::size_t> linears;  ///< indices into ReportData::linears
  std::int64_t parameters = 0;
  std::vector<SpaceLevel> levels;
};

/// A measured allocation.
struct ReportPoint {
  Point point;
  std::uint64_t bytes = 0;  ///< of the files that would be written
  double bits = 0;          ///< average per quantized weight, metadata included
  Measurement measurement;  ///< without per_token
};

/// What happened in one step of a search.
struct ReportStep {
  std::size_t point = 0;  ///< index into ReportData::points
  double predicted = 0;   ///< divergence that the strategy expected; NaN: none
};

/// How much of the plane was covered after so many measurements.
struct ReportProgress {
  std::int64_t evaluations = 0;
  double full_passes = 0;
  double hypervolume = 0;
};

/// A table that a strategy kept (Note, search/strategy.h): a column for each name, NaN where a row lacks it.
struct ReportTable {
  std::vector<std::string> names;
  std::vector<std::vector<double>> columns;
};

struct ReportSearch {
  std::string strategy;
  std::string options;
  std::uint64_t seed = 0;
  bool finished = false;
  std::vector<ReportStep> steps;  ///< in the order of the questions
  double full_passes = 0;
  double seconds = 0;                                  ///< of the measurements that it asked for; 0: unknown
  std::vector<std::pair<std::string, double>> phases;  ///< full passes of "sensitivity", "round", ..
  std::vector<std::size_t> front;                      ///< indices into ReportData::points, ascending by size
  std::vector<ReportProgress> progress;
  ReportTable rounds;
};

/// What the model loses when only this variable is stored in few bits.
struct ReportSensitivity {
  std::string strategy;             ///< that found it out
  std::vector<double> values;       ///< divergence, for every variable; NaN: not measured
  std::optional<double> threshold;  ///< what lies above is kept at many bits (AMQ's pruning)
};

/// A measurement on text that no search saw.
struct ReportHeldout {
  std::string label;  ///< "chosen", "uniform b3g128"
  bool uniform = false;
  std::uint64_t bytes = 0;
  double bits = 0;
  Measurement measurement;
  double standard_error = 0;  ///< of the divergence; 0: unknown
};

/// Where the values of a sample lie.
struct ReportSpread {
  double mean = 0;
  double deviation = 0;
  double minimum = 0;
  double lower = 0;  ///< first quartile
  double median = 0;
  double upper = 0;  ///< third quartile
  double maximum = 0;
};

/// A study of strategies with several independent runs each (the metaheuristic paper).
struct ReportStudy {
  struct Group {
    std::string strategy;
    std::size_t runs = 0;
    ReportSpread value;  ///< of the runs' outcomes
    ReportSpread perplexity;
    ReportSpread divergence;
    double bits_per_weight = 0;             ///< mean of the outcomes
    double full_passes = 0;                 ///< mean
    std::vector<ReportSpread> band;         ///< of the best value after every question
    std::vector<std::vector<double>> bits;  ///< [run][variable]: b1 in the outcome
  };
  struct Test {
    std::size_t a = 0;  ///< index into groups
    std::size_t b = 0;
    double p = 1;           ///< Wilcoxon's rank-sum test, two-sided
    double holm = 1;        ///< the same, adjusted for all pairs
    double exact = 1;       ///< Mann-Whitney's exact p
    double a_better = 0.5;  ///< probability that a run of `a` ends better than one of `b` (Vargha-Delaney)
  };
  struct Baseline {
    std::string name;
    double bits_per_weight = 0;
    std::uint64_t bytes = 0;
    double perplexity = 0;
    double value = 0;  ///< in the study's goal
    std::optional<double> divergence;
  };
  std::string value_name;  ///< axis: "fitness 1000 / (PPL x sum of bits)"
  bool larger_is_better = false;
  std::int64_t evaluations = 0;  ///< questions of every run
  std::vector<Group> groups;
  std::vector<Test> tests;
  std::vector<Baseline> baselines;
};

/// A file that was judged on a text by the model that it was made from.
struct ReportFile {
  std::string name;
  std::uint64_t bytes = 0;
  double bits = 0;  ///< of the file per weight of the model
  KlStatistics kl;  ///< NaN: the file computes no finite numbers
  double flips = 0;
  double perplexity = 0;
  /// Index into ReportData::files of the closest to the model of the others that are at most as large, and by
  /// how much this file's KL is above that one's.
  std::optional<std::size_t> rival;
  double difference = 0;
  double difference_error = 0;
};

/// Everything that the report's page shows. What there is not is empty, and its section missing.
struct ReportData {
  ReportModel model;
  std::string pick_command;  ///< writes the model of a budget; "{budget}" stands for its bytes
  bool running = false;      ///< a search is not finished yet
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 0;  ///< of the whole token set
  std::int64_t tokens = 0;   ///< scored tokens of it
  Outcome ideal;             ///< of the hypervolume; sizes in bits per weight
  Outcome reference;
  std::vector<Scheme> menu;
  std::vector<ReportLinear> linears;
  std::vector<ReportVariable> variables;
  std::vector<ReportPoint> points;  ///< every (point, windows) once
  std::vector<ReportSearch> searches;
  std::vector<std::size_t> front;  ///< of all searches together, indices into points, ascending by size
  double hypervolume = 0;          ///< of that front
  std::vector<ReportSensitivity> sensitivities;
  std::vector<ReportHeldout> heldout;
  std::vector<WrittenSteps> written;  ///< what each step after the search gained, smallest model first
  std::vector<TaskScores> tasks;      ///< of the models that were judged by tasks, smallest first
  std::optional<ReportStudy> study;
  std::vector<ReportFile> files;  ///< ascending by bytes; `tokens` and `windows` are of their text
};

/// What the page's script reads (page/data.js): numbers rounded to what can be seen, points as strings of
/// digits. Of more than `most_digits` digits, the points far from any front lose their allocation, so that
/// the page of a large model stays one that a browser opens at once.
nlohmann::json to_json(const ReportData& data, std::size_t most_digits = 6'000'000);

}  // namespace knapsaq
