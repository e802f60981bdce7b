#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// A strategy's next questions.
struct Batch {
  std::vector<Point> points;      ///< may repeat, within the batch and from earlier ones, at no cost
  std::int64_t windows = 0;       ///< fidelity; 0: all windows of the token set
  std::vector<double> predicted;  ///< the strategy's predicted divergence of each point; empty: none
  std::string phase;              ///< for people: "sensitivity", "round 12"
};

/// Numbers that a strategy stores with the run: one row of one of its tables.
struct Note {
  std::string kind;  ///< table: "round", "sensitivity"
  std::vector<std::pair<std::string, double>> values;
};

/// The value that a scalar search (ga, pso, sa, de) minimises.
class Goal {
 public:
  virtual ~Goal() = default;
  virtual double value(const Point& point, const Measurement& measurement) const = 0;
};

/// The arguments of every strategy. All pointers outlive it.
struct StrategySetup {
  const SearchSpace* space = nullptr;
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 0;  ///< of the whole token set
  std::uint64_t seed = 0;
  std::int64_t evaluations = 0;  ///< maximum number of measurements; 0: determined by the strategy's options
  std::optional<Budget> budget;  ///< the size that the user wants in the end, if known
  const Goal* goal = nullptr;    ///< for scalar searches
};

/// A way to search: ask and tell. A strategy never evaluates anything. It is deterministic: the same setup
/// and the same answers give the same questions. Resuming needs nothing else (run_search() answers from the
/// archive what was measured before).
class Strategy {
 public:
  virtual ~Strategy() = default;
  /// The next batch; a batch without points ends the search.
  virtual Batch ask() = 0;
  /// The measurements of the batch that ask() returned last, one for each of its points.
  virtual void tell(const Batch& batch, std::span<const Measurement> measurements) = 0;
  /// The total number of measurements that it expects to ask for, as far as it knows now; 0: unknown.
  virtual std::int64_t planned() const { return 0; }
  /// The notes since the last call.
  virtual std::vector<Note> notes() { return {}; }
};

/// One constant of a strategy: its name, its default, and a sentence.
struct StrategyOption {
  std::string name;
  std::string value;
  std::string help;
};

/// Values of a strategy's options: the defaults with what the user set.
class OptionValues {
 public:
  explicit OptionValues(std::span<const StrategyOption> options);
  /// "name=value". Throws UsageError, listing the options, for an unknown name.
  void set(std::string_view assignment);
  /// Throw UsageError naming the option if its value is not such a number.
  double number(std::string_view name) const;
  std::int64_t integer(std::string_view name, std::int64_t least = 0) const;
  bool flag(std::string_view name) const;  ///< 0 or 1
  const std::string& text(std::string_view name) const;
  /// "name=value name=value", in order: this identifies a search.
  std::string to_string() const;

 private:
  std::vector<StrategyOption> options_;
};

/// A strategy in the registry: one line there, one file of its own.
struct StrategyInfo {
  std::string_view name;
  std::string_view summary;  ///< one line
  std::vector<StrategyOption> options;
  std::unique_ptr<Strategy> (*make)(const StrategySetup& setup, const OptionValues& options);
};

/// All strategies, in the order in which they are listed to people.
std::vector<StrategyInfo> strategies();
/// Throws UsageError, listing them, for an unknown name. What it gives stays.
const StrategyInfo& find_strategy(std::string_view name);
/// Adds a strategy of the program's own: before it is used, from any thread. Throws UsageError if there is
/// one of that name.
void register_strategy(StrategyInfo strategy);

}  // namespace knapsaq
