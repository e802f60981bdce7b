#include "knapsaq/search/population_search.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

/// How often a known point is changed before it is asked anyway: enough for all spaces except nearly
/// exhausted ones.
constexpr int kFreshTries = 20;

/// A separate seed for every strategy (FNV-1a), so that runs of different strategies with the same seed are
/// independent, as the tests that compare them assume.
std::uint64_t mixed(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u ^ seed;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace

std::vector<StrategyOption> PopulationSearch::options(std::vector<StrategyOption> own) {
  std::vector<StrategyOption> all = {
      {"population", "10", "points of the first population and of every epoch; the paper's 10"},
      {"epochs", "10", "epochs after the first population; the upper end of the paper's 5 to 10"},
      {"fresh", "1",
       "1: a point that was asked before is changed in one variable until it is new, since its answer is "
       "known; "
       "0: it is asked again, as the textbook algorithms do"},
      {"repair", "8",
       "under a budget: variables drawn for each lowering, of which the one that loses least by its local "
       "error is lowered. 1: a random one; 0: the least of all, which makes points alike; 8 did well in "
       "short "
       "and long runs"}};
  std::move(own.begin(), own.end(), std::back_inserter(all));
  return all;
}

PopulationSearch::PopulationSearch(const StrategySetup& setup, const OptionValues& options,
                                   std::string_view name)
    : name_(name), setup_(setup), goal_(setup.goal), random_(mixed(setup.seed, name)) {
  if (goal_ == nullptr) {
    if (!setup.budget)
      throw UsageError(fmt::format("strategy {} needs a goal or a budget: give one of the two", name));
    own_goal_ = budget_goal(*setup.space, *setup.budget, setup.divergence);
    goal_ = own_goal_.get();
  }
  population_ = static_cast<std::size_t>(options.integer("population", 1));
  const std::int64_t epochs = options.integer("epochs", 0);
  fresh_ = options.flag("fresh");
  const auto candidates = static_cast<std::size_t>(options.integer("repair", 0));
  if (setup.budget) repair_.emplace(*setup.space, *setup.budget, candidates);
  constexpr std::int64_t kMost = 1'000'000'000;  // keeps the product below from overflowing
  if (static_cast<std::int64_t>(population_) > kMost || epochs >= kMost)
    throw UsageError(fmt::format("strategy {}: population and epochs have to be below {}", name, kMost));
  questions_ =
      setup.evaluations > 0 ? setup.evaluations : static_cast<std::int64_t>(population_) * (epochs + 1);
  for (std::size_t i = 0; i < space().variables.size(); ++i) {
    if (levels(i) > 1) free_.push_back(i);
  }
}

double PopulationSearch::share(const OptionValues& options, std::string_view option) const {
  const double value = options.number(option);
  if (!(value >= 0 && value <= 1))
    throw UsageError(fmt::format("option {} of {} is {}: it has to be within 0 and 1", option, name_, value));
  return value;
}

bool PopulationSearch::second_of(const OptionValues& options, std::string_view option, std::string_view first,
                                 std::string_view second) const {
  const std::string& text = options.text(option);
  if (text != first && text != second)
    throw UsageError(
        fmt::format("option {} of {} is {}: use {} or {}", option, name_, in_quotes(text), first, second));
  return text == second;
}

std::uint8_t PopulationSearch::other_level(std::size_t variable, std::uint8_t level) {
  const std::uint64_t draw = random_.below(levels(variable) - 1);
  return static_cast<std::uint8_t>(draw < level ? draw : draw + 1);
}

std::uint8_t PopulationSearch::next_level(std::size_t variable, std::uint8_t level) {
  const bool up = random_.below(2) == 1;
  if (level == 0) return 1;
  if (level + 1U == levels(variable)) return static_cast<std::uint8_t>(level - 1U);
  return static_cast<std::uint8_t>(up ? level + 1U : level - 1U);
}

Point PopulationSearch::random_point() {
  Point point(space().variables.size(), 0);
  for (const std::size_t i : free_) point[i] = static_cast<std::uint8_t>(random_.below(levels(i)));
  return point;
}

void PopulationSearch::make_fresh(Point& point) {
  if (free_.empty()) return;
  for (int tries = 0; tries < kFreshTries && known_.contains(point); ++tries) {
    const std::size_t i = free_[random_.below(free_.size())];
    point[i] = other_level(i, point[i]);
    if (repair_) (*repair_)(point, random_);
  }
}

Batch PopulationSearch::ask() {
  Batch batch;
  if (asked_ >= questions_) return batch;
  if (batches_ == 0) {
    for (std::size_t i = 0; i < population_; ++i) batch.points.push_back(random_point());
    batch.phase = "first population";
  } else {
    batch.points = propose();
    batch.phase = fmt::format("epoch {}", batches_);
  }
  const auto left = static_cast<std::size_t>(questions_ - asked_);
  if (batch.points.size() > left) batch.points.resize(left);
  for (Point& point : batch.points) {
    if (repair_) (*repair_)(point, random_);
    if (fresh_) make_fresh(point);
    known_.insert(point);
  }
  return batch;
}

void PopulationSearch::tell(const Batch& batch, std::span<const Measurement> measurements) {
  std::vector<double> values;
  values.reserve(batch.points.size());
  for (std::size_t i = 0; i < batch.points.size(); ++i) {
    const double value = goal_->value(batch.points[i], measurements[i]);
    values.push_back(std::isfinite(value) ? value : kWorthless);
  }
  const double least = *std::min_element(values.begin(), values.end());
  best_ = batches_ == 0 ? least : std::min(best_, least);
  asked_ += static_cast<std::int64_t>(batch.points.size());
  double sum = 0;
  for (const double value : values) sum += value;
  Note note{"epoch",
            {{"epoch", static_cast<double>(batches_)},
             {"questions", static_cast<double>(asked_)},
             {"best", best_},
             {"mean", sum / static_cast<double>(values.size())}}};
  ++batches_;
  // After a batch that was cut short, the search is over.
  if (asked_ < questions_) {
    learn(batch.points, values);
    annotate(note);
  }
  notes_.push_back(std::move(note));
}

std::vector<Note> PopulationSearch::notes() { return std::exchange(notes_, {}); }

}  // namespace knapsaq
