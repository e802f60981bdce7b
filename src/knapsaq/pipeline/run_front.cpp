#include "knapsaq/pipeline/run_front.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "knapsaq/search/point_less.h"

namespace knapsaq {

RunFront::RunFront(const Run& run, const std::vector<std::int64_t>& searches) : run_(run) {
  struct Known {
    Measurement measurement;
    std::string strategy;
  };
  std::map<Point, Known, PointLess> known;
  const std::int64_t windows = run.settings().search.windows();
  for (const SearchRecord& record : run.archive().searches()) {
    if (!searches.empty() && std::ranges::find(searches, record.id) == searches.end()) continue;
    for (const Step& step : run.archive().steps(record.id)) {
      ++evaluations_;
      full_passes_ += step.cost;
      if (step.measurement.windows == windows)
        known.try_emplace(step.point, Known{step.measurement, record.strategy});
    }
  }
  const SearchSpace& space = run.space();
  const Divergence divergence = run.settings().divergence;
  std::vector<Outcome> outcomes;
  std::vector<const Point*> points;
  for (const auto& [point, one] : known) {
    outcomes.push_back({space.bits(point), one.measurement.value(divergence)});
    points.push_back(&point);
  }
  for (const std::size_t index : knapsaq::front(outcomes)) {
    const Point& point = *points[index];
    const Known& one = known.at(point);
    points_.push_back({point, space.bytes(point), space.bits(point), one.measurement, one.strategy});
  }
  const auto smallest = known.find(space.smallest());
  if (smallest == known.end() || !known.contains(space.largest())) return;
  reference_ = {space.bits(space.largest()), smallest->second.measurement.value(divergence)};
  hypervolume_ = knapsaq::hypervolume(outcomes, {space.bits(space.smallest()), 0}, *reference_);
}

std::vector<std::string> RunFront::remarks(std::int64_t search) const {
  std::vector<std::string> lines;
  std::string pruned;
  std::size_t count = 0;
  std::size_t all = 0;
  for (const StoredNote& stored : run_.archive().notes(search)) {
    if (stored.note.kind != "sensitivity") continue;
    const auto value = [&](std::string_view name) -> std::optional<double> {
      for (const auto& [key, number] : stored.note.values)
        if (key == name) return number;
      return std::nullopt;
    };
    const auto variable = static_cast<std::size_t>(value("variable").value_or(-1));
    if (!value("pruned") || variable >= run_.space().variables.size()) continue;
    ++all;
    if (*value("pruned") == 0) continue;
    pruned += fmt::format("{}{} ({:.4g})", count++ == 0 ? "" : ", ", run_.space().variables[variable].name,
                          value("divergence").value_or(0));
  }
  if (all > 0)
    lines.push_back(
        count == 0 ? fmt::format("pruned: none of {}", all)
                   : fmt::format("pruned: {} of {}, kept at their largest scheme: {}", count, all, pruned));
  return lines;
}

}  // namespace knapsaq
