#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/base/random.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/point_less.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// The common part of the scalar searches: the first population, counting, goal values, points that fit the
/// budget, and no repeated questions. A search proposes points and receives their values.
class PopulationSearch : public Strategy {
 public:
  Batch ask() final;
  void tell(const Batch& batch, std::span<const Measurement> measurements) final;
  std::vector<Note> notes() final;
  std::int64_t planned() const final { return questions_; }

  /// The options that all of them have, followed by a search's own.
  static std::vector<StrategyOption> options(std::vector<StrategyOption> own);

 protected:
  /// `name`: of the strategy; the text must outlive it.
  PopulationSearch(const StrategySetup& setup, const OptionValues& options, std::string_view name);

  /// The next points, at least one; they may exceed the budget. Called after learn().
  virtual std::vector<Point> propose() = 0;
  /// The points that were asked for, of the first population or of propose(), with their goal values. Some
  /// may differ from the proposed ones (budget, `fresh`).
  virtual void learn(std::span<const Point> points, std::span<const double> values) = 0;
  /// Further numbers for the row of every batch in notes().
  virtual void annotate(Note& /*note*/) const {}

  const SearchSpace& space() const { return *setup_.space; }
  std::size_t levels(std::size_t variable) const { return space().variables[variable].levels.size(); }
  /// Variables with a choice: more than one level.
  const std::vector<std::size_t>& free_variables() const { return free_; }
  std::size_t population() const { return population_; }
  std::int64_t questions() const { return questions_; }  ///< of the whole search
  Random& random() { return random_; }
  /// Any level of `variable` except the present one, or one of the two next to it.
  std::uint8_t other_level(std::size_t variable, std::uint8_t level);
  std::uint8_t next_level(std::size_t variable, std::uint8_t level);
  /// Throw UsageError, naming the option and the search: for a number outside [0, 1]; the second returns
  /// whether an option is the second of two words.
  double share(const OptionValues& options, std::string_view option) const;
  bool second_of(const OptionValues& options, std::string_view option, std::string_view first,
                 std::string_view second) const;

 private:
  Point random_point();
  void make_fresh(Point& point);

  std::string_view name_;
  StrategySetup setup_;
  std::unique_ptr<Goal> own_goal_;
  const Goal* goal_;
  std::optional<Repair> repair_;
  Random random_;
  std::vector<std::size_t> free_;
  std::size_t population_ = 0;
  bool fresh_ = false;
  std::int64_t questions_ = 0;
  std::int64_t asked_ = 0;
  std::int64_t batches_ = 0;
  double best_ = 0;
  std::set<Point, PointLess> known_;  ///< all points asked so far
  std::vector<Note> notes_;
};

}  // namespace knapsaq
