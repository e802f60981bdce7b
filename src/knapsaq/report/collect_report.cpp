#include "knapsaq/report/collect_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/quote.h"
#include "knapsaq/search/statistics.h"

namespace knapsaq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Points of a curve of hypervolumes: more than a plot can show.
constexpr std::size_t kCurvePoints = 300;

/// "round" of "round 12".
std::string without_number(std::string_view phase) {
  while (!phase.empty() && ((phase.back() >= '0' && phase.back() <= '9') || phase.back() == ' '))
    phase.remove_suffix(1);
  return std::string(phase);
}

std::optional<double> value_of(const Note& note, std::string_view name) {
  const auto found = std::ranges::find(note.values, name, &std::pair<std::string, double>::first);
  return found == note.values.end() ? std::nullopt : std::optional(found->second);
}

/// Of the values that are known; NaN of none.
double median_of_known(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  return values.empty() ? kNaN : median(std::move(values));
}

class Collector {
 public:
  explicit Collector(ReportSources sources) : archive_(*sources.archive), space_(*sources.space) {
    data_.model = std::move(sources.model);
    data_.pick_command = fmt::format("knapsaq pick {} --budget {{budget}} -o OUT", in_shell(sources.run));
    data_.divergence = sources.divergence;
    data_.windows = sources.windows;
    data_.tokens = sources.tokens;
    data_.study = std::move(sources.study);
    data_.written = std::move(sources.written);
    data_.tasks = std::move(sources.tasks);
    describe_space(sources.table);
  }

  ReportData collect() {
    std::vector<std::vector<double>> costs;
    for (const SearchRecord& record : archive_.searches()) costs.push_back(add_search(record));
    add_seconds();
    choose_reference();
    for (std::size_t s = 0; s < data_.searches.size(); ++s) follow(data_.searches[s], costs[s]);
    std::vector<std::size_t> all(data_.points.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    data_.front = front_of(all);
    data_.hypervolume = covered(data_.front);
    add_heldout();
    return std::move(data_);
  }

 private:
  void describe_space(const ErrorTable* table) {
    data_.menu = space_.menu;
    for (std::size_t i = 0; i < space_.linears.size(); ++i) {
      ReportLinear linear;
      linear.name = space_.linears[i];
      linear.module = linear.name;
      if (table != nullptr && i < table->rows.size()) {
        const ErrorRow& row = table->rows[i];
        linear.block = row.layer;
        linear.module = row.module;
        linear.parameters = row.parameters;
        if (row.has_statistics) linear.statistics = row.statistics;
      }
      data_.linears.push_back(std::move(linear));
    }
    for (const Variable& variable : space_.variables)
      data_.variables.push_back({.name = variable.name,
                                 .linears = variable.linears,
                                 .parameters = variable.parameters,
                                 .levels = variable.levels});
  }

  double divergence(std::size_t point) const {
    return data_.points[point].measurement.value(data_.divergence);
  }
  bool is_full(std::size_t point) const {
    return data_.points[point].measurement.windows == data_.windows && std::isfinite(divergence(point));
  }

  /// Index of the point at that fidelity, added if it is new.
  std::size_t index_of(const Point& point, const Measurement& measurement) {
    std::string key(point.begin(), point.end());
    key += fmt::format("/{}", measurement.windows);
    const auto [found, added] = known_.try_emplace(std::move(key), data_.points.size());
    if (added) {
      data_.points.push_back({.point = point,
                              .bytes = space_.bytes(point),
                              .bits = space_.bits(point),
                              .measurement = measurement});
      data_.points.back().measurement.per_token.clear();
    }
    return found->second;
  }

  /// Returns the cost of every step.
  std::vector<double> add_search(const SearchRecord& record) {
    ReportSearch search;
    search.strategy = record.strategy;
    search.options = record.options;
    search.seed = record.seed;
    search.finished = record.finished;
    data_.running = data_.running || !record.finished;
    std::vector<double> costs;
    for (const Step& step : archive_.steps(record.id)) {
      search.steps.push_back(
          {.point = index_of(step.point, step.measurement), .predicted = step.predicted.value_or(kNaN)});
      search.full_passes += step.cost;
      costs.push_back(step.cost);
      const std::string phase = without_number(step.phase);
      auto found = std::ranges::find(search.phases, phase, &std::pair<std::string, double>::first);
      if (found == search.phases.end()) found = search.phases.emplace(found, phase, 0);
      found->second += step.cost;
    }
    add_notes(search, archive_.notes(record.id));
    data_.searches.push_back(std::move(search));
    return costs;
  }

  void add_notes(ReportSearch& search, const std::vector<StoredNote>& notes) {
    ReportSensitivity sensitivity;
    sensitivity.strategy = search.strategy;
    sensitivity.values.assign(space_.variables.size(), kNaN);
    bool sensitive = false;
    bool noted_pruning = false;
    double least_pruned = std::numeric_limits<double>::infinity();
    double most_kept = -std::numeric_limits<double>::infinity();
    std::size_t rows = 0;
    for (const auto& [id, batch, note] : notes) {
      if (note.kind == "sensitivity") {
        const std::optional<double> variable = value_of(note, "variable");
        const std::optional<double> value = value_of(note, "divergence");
        if (!variable || !value || !(*variable >= 0) ||
            *variable >= static_cast<double>(sensitivity.values.size()))
          continue;
        sensitivity.values[static_cast<std::size_t>(*variable)] = *value;
        sensitive = true;
        if (const std::optional<double> pruned = value_of(note, "pruned")) {
          noted_pruning = true;
          if (*pruned != 0)
            least_pruned = std::min(least_pruned, *value);
          else
            most_kept = std::max(most_kept, *value);
        }
      } else if (note.kind == "round") {
        add_row(search.rounds, note, rows++);
      }
    }
    if (!sensitive) return;
    if (noted_pruning) {
      // AMQ's rule is twice the median; where another factor was asked for, the least of what was pruned.
      const double twice = 2 * median_of_known(sensitivity.values);
      sensitivity.threshold = most_kept <= twice && twice <= least_pruned ? twice : least_pruned;
    }
    // Another seed of the same strategy measures the same.
    if (std::ranges::none_of(data_.sensitivities, [&](const ReportSensitivity& one) {
          return one.strategy == sensitivity.strategy;
        }))
      data_.sensitivities.push_back(std::move(sensitivity));
  }

  static void add_row(ReportTable& table, const Note& note, std::size_t row) {
    for (const auto& [name, value] : note.values) {
      const auto place = static_cast<std::size_t>(std::ranges::find(table.names, name) - table.names.begin());
      if (place == table.names.size()) {
        table.names.push_back(name);
        table.columns.emplace_back(row, kNaN);
      }
      table.columns[place].resize(row, kNaN);
      table.columns[place].push_back(value);
    }
    for (std::vector<double>& column : table.columns) column.resize(row + 1, kNaN);
  }

  /// What measuring took, for the search that asked for a point first.
  void add_seconds() {
    std::vector<double> seconds(data_.points.size());
    for (const Archive::Entry& entry : archive_.entries(kSearchSet, data_.windows)) {
      std::string key(entry.point.begin(), entry.point.end());
      key += fmt::format("/{}", entry.measurement.windows);
      if (const auto found = known_.find(key); found != known_.end()) seconds[found->second] = entry.seconds;
    }
    for (ReportSearch& search : data_.searches)
      for (const ReportStep& step : search.steps) search.seconds += std::exchange(seconds[step.point], 0);
  }

  /// The plane between the smallest point, which should have the worst divergence, and the largest one.
  void choose_reference() {
    const Point smallest = space_.smallest();
    data_.ideal = {.size = space_.bits(smallest), .divergence = 0};
    data_.reference = {.size = space_.bits(space_.largest()), .divergence = 0};
    for (std::size_t i = 0; i < data_.points.size(); ++i) {
      if (!is_full(i)) continue;
      if (data_.points[i].point == smallest) {
        data_.reference.divergence = divergence(i);
        return;
      }
      data_.reference.divergence = std::max(data_.reference.divergence, divergence(i));
    }
  }

  std::vector<Outcome> outcomes(const std::vector<std::size_t>& points) const {
    std::vector<Outcome> result;
    for (const std::size_t i : points)
      result.push_back({.size = data_.points[i].bits, .divergence = is_full(i) ? divergence(i) : kNaN});
    return result;
  }

  std::vector<std::size_t> front_of(const std::vector<std::size_t>& points) const {
    std::vector<std::size_t> result;
    for (const std::size_t i : front(outcomes(points))) result.push_back(points[i]);
    return result;
  }

  double covered(const std::vector<std::size_t>& points) const {
    return hypervolume(outcomes(points), data_.ideal, data_.reference);
  }

  /// Front and progress of a search.
  void follow(ReportSearch& search, const std::vector<double>& costs) const {
    std::vector<std::size_t> seen;
    double passes = 0;
    const std::size_t count = search.steps.size();
    const std::size_t every = std::max<std::size_t>(1, count / kCurvePoints);
    for (std::size_t i = 0; i < count; ++i) {
      seen.push_back(search.steps[i].point);
      passes += costs[i];
      if ((i + 1) % every != 0 && i + 1 != count) continue;
      // What is dominated now will be so later: only the front goes on.
      seen = front_of(seen);
      search.progress.push_back({.evaluations = static_cast<std::int64_t>(i + 1),
                                 .full_passes = passes,
                                 .hypervolume = covered(seen)});
    }
    search.front = std::move(seen);
  }

  /// `pick` is asked for these by their bytes.
  void add_heldout() {
    for (Archive::Entry& entry : archive_.entries(kHeldOutSet)) {
      const std::vector<std::size_t> choices = space_.choices(entry.point);
      const bool uniform =
          !choices.empty() && std::ranges::all_of(choices, [&](std::size_t c) { return c == choices[0]; });
      const double bits = space_.bits(entry.point);
      data_.heldout.push_back({.label = uniform
                                            ? fmt::format("uniform {}", to_string(space_.menu[choices[0]]))
                                            : fmt::format("searched, {:.2f} bits", bits),
                               .uniform = uniform,
                               .bytes = space_.bytes(entry.point),
                               .bits = bits,
                               .measurement = std::move(entry.measurement)});
      const auto whole = archive_.find(kHeldOutSet, entry.point, data_.heldout.back().measurement.windows);
      if (whole) data_.heldout.back().standard_error = standard_error(*whole);
    }
  }

  const Archive& archive_;
  const SearchSpace& space_;
  ReportData data_;
  std::map<std::string, std::size_t> known_;  ///< index into data_.points by levels and windows
};

}  // namespace

ReportData collect_report(ReportSources sources) { return Collector(std::move(sources)).collect(); }

}  // namespace knapsaq
