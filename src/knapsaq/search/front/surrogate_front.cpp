#include "knapsaq/search/front/surrogate_front.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/search/best_point.h"
#include "knapsaq/search/point_less.h"

namespace knapsaq {
namespace {

// Largest step of a change. In a menu of bits and groups, the next level up may be a worse one of the same
// bits; the one after it is not.
constexpr int kReach = 2;
// Number of the best single changes up (down) that are tried in pairs: all of them for 40 variables; for
// hundreds of variables, those that any good pair consists of.
constexpr std::size_t kPaired = 96;
// A start reaches an optimum after a few changes; the limit only guards against cycles caused by rounding.
constexpr int kMostChanges = 1000;

// Steps from a centre that are kept of each kind (larger, smaller, equally large). A round measures at most a
// hundred points of the whole front, so only a few of them belong to one centre. All pairs around 500 centres
// of 224 variables would take gigabytes; 255 for each centre take 30 MB.
constexpr std::size_t kKept = 85;

struct Change {
  std::size_t variable = 0;
  std::uint8_t level = 0;
  std::int64_t bytes = 0;  ///< more than before
  double divergence = 0;   ///< of the point with this change alone
};

/// One change, or one up and one down.
struct Neighbour {
  const Change* first = nullptr;
  const Change* second = nullptr;
  std::int64_t bytes = 0;  ///< more than before
  double divergence = 0;
};

/// Divergence added per byte by a change from `now`.
double rate(double divergence, double now, std::int64_t bytes) {
  return (divergence - now) / static_cast<double>(std::abs(bytes) + 1);
}

std::int64_t signed_bytes(const Variable& variable, std::uint8_t level) {
  return static_cast<std::int64_t>(variable.levels[level].bytes);
}

/// Changes of one variable by 1 to `reach` levels that make the point larger (or keep its size), and those
/// that make it smaller. Each list has the best first: most divergence saved, or least added, per byte.
struct Changes {
  std::vector<Change> up;
  std::vector<Change> down;
};
Changes changes_of(const SearchSpace& space, const Surrogate::Walk& walk, int reach) {
  Changes result;
  const Point& point = walk.point();
  const double now = walk.divergence();
  for (std::size_t i = 0; i < point.size(); ++i) {
    const Variable& variable = space.variables[i];
    for (int level = std::max(0, point[i] - reach);
         level <= std::min(static_cast<int>(variable.levels.size()) - 1, point[i] + reach); ++level) {
      if (level == point[i]) continue;
      const auto to = static_cast<std::uint8_t>(level);
      const Change change{i, to, signed_bytes(variable, to) - signed_bytes(variable, point[i]),
                          walk.with(i, to)};
      (change.bytes >= 0 ? result.up : result.down).push_back(change);
    }
  }
  const auto keep_best = [&](std::vector<Change>& list) {
    std::ranges::stable_sort(
        list, {}, [&](const Change& change) { return rate(change.divergence, now, change.bytes); });
    if (list.size() > kPaired) list.resize(kPaired);
  };
  keep_best(result.up);
  keep_best(result.down);
  return result;
}

/// The steps that save most divergence, or add least, per byte; separately for larger, smaller and equally
/// large points, which cannot be compared with each other. They point into `changes`.
std::vector<Neighbour> best_neighbours(const Changes& changes, const Surrogate::Walk& walk) {
  const double now = walk.divergence();
  std::array<std::vector<Neighbour>, 3> kinds;
  const auto add = [&](const Neighbour& one) {
    kinds[one.bytes > 0 ? 0 : one.bytes < 0 ? 1 : 2].push_back(one);
  };
  for (const std::vector<Change>* list : {&changes.up, &changes.down})
    for (const Change& change : *list) add({&change, nullptr, change.bytes, change.divergence});
  for (const Change& up : changes.up) {
    for (const Change& down : changes.down) {
      if (up.variable == down.variable) continue;
      const std::int64_t bytes = up.bytes + down.bytes;
      const double divergence = walk.with(up.variable, up.level, down.variable, down.level);
      // A pair that is neither smaller nor better is not on a front.
      if (divergence >= now && bytes >= 0) continue;
      add({&up, &down, bytes, divergence});
    }
  }
  std::vector<Neighbour> best;
  for (std::vector<Neighbour>& kind : kinds) {
    std::ranges::stable_sort(kind, {},
                             [&](const Neighbour& one) { return rate(one.divergence, now, one.bytes); });
    if (kind.size() > kKept) kind.resize(kKept);
    best.insert(best.end(), kind.begin(), kind.end());
  }
  return best;
}

/// Whether a point with these changes, which add so many bytes to the linears, fits a budget with this much
/// room.
class Fitting {
 public:
  Fitting(const SearchSpace& space, const Budget& budget) : space_(space), budget_(budget) {}

  void start_at(const Point& point) {
    point_ = point;
    room_ =
        static_cast<std::int64_t>(budget_.bytes) - static_cast<std::int64_t>(space_.size(point, budget_.of));
  }

  bool operator()(std::int64_t bytes, const Change& first, const Change* second) {
    if (budget_.of == Budget::Of::linears) return bytes <= room_;
    // Headers change by less than that for each of two variables, but for models of thousands of tensors.
    constexpr std::int64_t kHeaders = 1 << 16;
    if (bytes > room_ + kHeaders) return false;
    const std::uint8_t before = std::exchange(point_[first.variable], first.level);
    const std::uint8_t other = second == nullptr ? 0 : std::exchange(point_[second->variable], second->level);
    const bool fits = space_.fits(point_, budget_);
    if (second != nullptr) point_[second->variable] = other;
    point_[first.variable] = before;
    return fits;
  }

 private:
  const SearchSpace& space_;
  const Budget& budget_;
  Point point_;
  std::int64_t room_ = 0;
};

/// The best point within the budget that is reached by single changes and pairs.
Point improve(const SearchSpace& space, const Surrogate& surrogate, Point start, const Budget& budget) {
  Surrogate::Walk walk(surrogate, std::move(start));
  Fitting fits(space, budget);
  for (int step = 0; step < kMostChanges; ++step) {
    check_cancelled();
    fits.start_at(walk.point());
    const Changes changes = changes_of(space, walk, kReach);
    // A gain below rounding is not an improvement.
    double best = walk.divergence() * (1 - 1e-9);
    const Change* first = nullptr;
    const Change* second = nullptr;
    for (const std::vector<Change>* list : {&changes.up, &changes.down}) {
      for (const Change& change : *list) {
        if (change.divergence >= best || !fits(change.bytes, change, nullptr)) continue;
        best = change.divergence;
        first = &change;
        second = nullptr;
      }
    }
    for (const Change& up : changes.up) {
      for (const Change& down : changes.down) {
        if (up.variable == down.variable) continue;
        const double divergence = walk.with(up.variable, up.level, down.variable, down.level);
        if (divergence >= best || !fits(up.bytes + down.bytes, up, &down)) continue;
        best = divergence;
        first = &up;
        second = &down;
      }
    }
    if (first == nullptr) break;
    for (const Change* change : {first, second})
      if (change != nullptr) walk.set(change->variable, change->level);
  }
  return walk.point();
}

Proposal proposal(const SearchSpace& space, const Surrogate& surrogate, const Point& point) {
  return {point, space.linear_bytes(point), surrogate.predict(point)};
}

}  // namespace

std::vector<Proposal> minimise(const SearchSpace& space, const Surrogate& surrogate,
                               std::span<const Budget> budgets, std::span<const Proposal> known) {
  LevelCosts costs;
  for (std::size_t i = 0; i < space.variables.size(); ++i) {
    std::vector<double>& levels = costs.emplace_back();
    for (std::size_t level = 0; level < space.variables[i].levels.size(); ++level)
      levels.push_back(surrogate.additive_cost(i, level));
  }

  // Two known points for each budget: the largest that fits (the nearest on the front), and the one with the
  // best prediction.
  std::vector<std::vector<Proposal>> found(budgets.size());
  parallel_for(budgets.size(), [&](std::size_t b) {
    std::vector<Point> starts = {best_point(space, costs, budgets[b]).levels};
    const Proposal* largest = nullptr;
    const Proposal* best = nullptr;
    for (const Proposal& one : known) {
      if (!space.fits(one.point, budgets[b])) continue;
      if (largest == nullptr || one.bytes > largest->bytes) largest = &one;
      if (best == nullptr || one.predicted < best->predicted) best = &one;
    }
    if (largest != nullptr) starts.push_back(largest->point);
    if (best != nullptr && best != largest) starts.push_back(best->point);
    for (const Point& start : starts)
      found[b].push_back(proposal(space, surrogate, improve(space, surrogate, start, budgets[b])));
  });
  std::vector<Proposal> all;
  for (std::vector<Proposal>& some : found) std::ranges::move(some, std::back_inserter(all));
  drop_repetitions(all);
  return all;
}

void drop_repetitions(std::vector<Proposal>& proposals) {
  const auto before = [&](std::size_t a, std::size_t b) {
    return PointLess{}(proposals[a].point, proposals[b].point);
  };
  std::set<std::size_t, decltype(before)> seen(before);
  std::vector<bool> repeated(proposals.size());
  for (std::size_t i = 0; i < proposals.size(); ++i) repeated[i] = !seen.insert(i).second;
  seen.clear();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    if (repeated[i]) continue;
    if (kept != i) proposals[kept] = std::move(proposals[i]);
    ++kept;
  }
  proposals.resize(kept);
}

std::vector<Proposal> neighbours(const SearchSpace& space, const Surrogate& surrogate,
                                 std::span<const Point> centres) {
  std::vector<std::vector<Proposal>> found(centres.size());
  parallel_for(centres.size(), [&](std::size_t c) {
    check_cancelled();
    const Surrogate::Walk walk(surrogate, centres[c]);
    const Changes changes = changes_of(space, walk, 1);
    const auto bytes = static_cast<std::int64_t>(space.linear_bytes(centres[c]));
    for (const Neighbour& one : best_neighbours(changes, walk)) {
      Point point = centres[c];
      for (const Change* change : {one.first, one.second})
        if (change != nullptr) point[change->variable] = change->level;
      found[c].push_back({std::move(point), static_cast<std::uint64_t>(bytes + one.bytes), one.divergence});
    }
  });
  std::vector<Proposal> all;
  for (std::vector<Proposal>& some : found) std::ranges::move(some, std::back_inserter(all));
  drop_repetitions(all);
  return all;
}

}  // namespace knapsaq
