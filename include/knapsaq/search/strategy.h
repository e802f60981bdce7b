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

/// What a strategy wants to know next.
struct Batch {
  std::vector<Point> points;  ///< may repeat, within the batch and from earlier ones: that costs nothing
  std::int64_t windows = 0;   ///< fidelity; 0: all windows of the token set
  std::vector<double>
      predicted;      ///< divergence that the strategy expects of each point; empty: it has no idea
  std::string phase;  ///< for people: "sensitivity", "round 12"
};

/// Numbers that a strategy wants kept with the run: one row of one of its tables.
struct Note {
  std::string kind;  ///< table: "round", "sensitivity"
  std::vector<std::pair<std::string, double>> values;
};

/// What a scalar search (ga, pso, sa, de) makes small.
class Goal {
 public:
  virtual ~Goal() = default;
  virtual double value(const Point& point, const Measurement& measurement) const = 0;
};

/// What every strategy gets. All pointers outlive it.
struct StrategySetup {
  const SearchSpace* space = nullptr;
  Divergence divergence = Divergence::kl;
  std::int64_t windows = 0;  ///< of the whole token set
  std::uint64_t seed = 0;
  std::int64_t evaluations = 0;  ///< most measurements; 0: what the strategy's options make of it
  std::optional<Budget> budget;  ///< what the user wants in the end, if known
  const Goal* goal = nullptr;    ///< for scalar searches
};

/// A way to search: ask and tell. A strategy never evaluates anything. It is deterministic: the same setup
/// and the same answers give the same questions, which is all that resuming needs (run_search() answers from
/// the archive what was measured before).
class Strategy {
 public:
  virtual ~Strategy() = default;
  /// The next batch; one without points ends the search.
  virtual Batch ask() = 0;
  /// The measurements of the batch that ask() gave last, one for each of its points.
  virtual void tell(const Batch& batch, std::span<const Measurement> measurements) = 0;
  /// Measurements that it means to ask for in all, as far as it knows now; 0: it cannot tell.
  virtual std::int64_t planned() const { return 0; }
  /// What there is to note since the last call.
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
  /// "name=value name=value", in order: what a search is told apart by.
  std::string to_string() const;

 private:
  std::vector<StrategyOption> options_;
};

/// A strategy as the registry knows it: one line there, one file of its own.
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
/// Adds a strategy of the program's own: before it is used, from any thread. Throws UsageError if there is one of
/// that name.
void register_strategy(StrategyInfo strategy);

}  // namespace knapsaq
