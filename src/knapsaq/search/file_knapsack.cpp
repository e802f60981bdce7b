#include "knapsaq/search/file_knapsack.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"

namespace knapsaq {
namespace {

/// Smaller budgets that are tried for a first solution that fits. Similar solutions take almost the same
/// bytes besides their sums, so the first or the second one fits.
constexpr int kTries = 8;
/// Number of solutions examined for the smallest one: those whose sums are as near the least one as the true
/// size may be, dozens of bytes for one file. Only linears of a few hundred weights have more than one such
/// level. With very many of them, the best of this many is taken, which takes seconds, and that size is
/// reported.
constexpr std::size_t kMostLooks = std::size_t{1} << 17;

/// Searches all solutions whose sums are less than the smallest known size: depth first, from the level of
/// least size.
class SmallestSearch {
 public:
  SmallestSearch(const FileKnapsack& knapsack, const std::vector<std::vector<Choice>>& items,
                 const std::vector<std::vector<std::uint8_t>>& alike, std::int64_t rest)
      : knapsack_(knapsack), rest_(rest) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      std::vector<std::size_t> levels;
      for (std::size_t l = 0; l < items[i].size(); ++l)
        if (alike[i][l] == l) levels.push_back(l);
      std::ranges::stable_sort(levels, {}, [&](std::size_t l) { return items[i][l].size; });
      const double least = items[i][levels.front()].size;
      best_.push_back(static_cast<std::uint8_t>(levels.front()));
      sum_ += static_cast<std::uint64_t>(least);
      std::vector<Other>& others = others_.emplace_back();
      for (const std::size_t l : levels)
        others.push_back({static_cast<std::int64_t>(items[i][l].size - least), static_cast<std::uint8_t>(l)});
    }
    bytes_ = knapsack_.size(best_);
  }

  Point run() {
    Point point = best_;
    look(point, 0, static_cast<std::int64_t>(sum_) + rest_);
    return best_;
  }

 private:
  struct Other {
    std::int64_t more = 0;  ///< bytes than the smallest level
    std::uint8_t level = 0;
  };

  /// `least`: a lower bound for all solutions that continue the first `from` levels.
  void look(Point& point, std::size_t from, std::int64_t least) {
    for (std::size_t i = from; i < others_.size(); ++i) {
      const std::uint8_t smallest = others_[i].front().level;
      for (std::size_t l = 1; l < others_[i].size() && looks_ < kMostLooks; ++l) {
        const std::int64_t now = least + others_[i][l].more;
        if (now >= static_cast<std::int64_t>(bytes_)) break;
        point[i] = others_[i][l].level;
        ++looks_;
        check_cancelled();
        if (const std::uint64_t bytes = knapsack_.size(point); bytes < bytes_) {
          bytes_ = bytes;
          best_ = point;
        }
        look(point, i + 1, now);
      }
      point[i] = smallest;
    }
  }

  const FileKnapsack& knapsack_;
  std::int64_t rest_;
  std::vector<std::vector<Other>> others_;  ///< ascending, the smallest level first
  std::uint64_t sum_ = 0;
  Point best_;
  std::uint64_t bytes_ = 0;
  std::size_t looks_ = 0;
};

std::uint64_t sum_of(const std::vector<std::vector<Choice>>& items, const Point& levels) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < items.size(); ++i) sum += static_cast<std::uint64_t>(items[i][levels[i]].size);
  return sum;
}

}  // namespace

FileKnapsack::FileKnapsack(const FileSizes& files, std::vector<FileItem> items)
    : files_(files), items_(std::move(items)) {
  for (const FileItem& item : items_) {
    std::vector<std::uint8_t>& alike = alike_.emplace_back();
    for (std::size_t l = 0; l < item.forms.size(); ++l) {
      std::size_t first = 0;
      while (first < l && !std::ranges::all_of(item.modules, [&](std::size_t module) {
               return files_.alike(module, item.forms[first], item.forms[l]);
             }))
        ++first;
      alike.push_back(static_cast<std::uint8_t>(first));
    }
  }
  Knapsack{choices(files_.sum_within(0))};  // reports what is wrong with costs and levels
}

std::uint64_t FileKnapsack::size(const Point& levels) const {
  std::vector<std::size_t> forms(files_.modules());
  for (std::size_t i = 0; i < items_.size(); ++i)
    for (const std::size_t module : items_[i].modules) forms[module] = items_[i].forms[levels[i]];
  return files_.total(forms);
}

std::vector<std::vector<Choice>> FileKnapsack::choices(const FileSizes::Sum& sum) const {
  std::vector<std::vector<Choice>> result;
  for (const FileItem& item : items_) {
    std::vector<Choice>& levels = result.emplace_back();
    for (std::size_t l = 0; l < item.forms.size(); ++l) {
      std::uint64_t bytes = 0;
      for (const std::size_t module : item.modules) bytes += sum.bytes[module][item.forms[l]];
      levels.push_back({item.costs[l], static_cast<double>(bytes)});
    }
  }
  return result;
}

FrontPoint FileKnapsack::smallest() const {
  // The nearest sum for sizes near the smallest sum.
  const FileSizes::Sum any = files_.sum_within(std::numeric_limits<std::uint64_t>::max());
  const std::vector<std::vector<Choice>> rough = choices(any);
  Point point;
  for (const std::vector<Choice>& item : rough)
    point.push_back(
        static_cast<std::uint8_t>(std::ranges::min_element(item, {}, &Choice::size) - item.begin()));
  const FileSizes::Sum sum = files_.sum_within(size(point));
  const std::vector<std::vector<Choice>> items = choices(sum);
  FrontPoint found;
  found.levels = SmallestSearch(*this, items, alike_, sum.least).run();
  found.bytes = size(found.levels);
  for (std::size_t i = 0; i < items.size(); ++i) {
    // Of levels of equal size, the cheapest.
    const std::uint8_t kind = found.levels[i];
    for (std::size_t l = 0; l < items[i].size(); ++l)
      if (alike_[i][l] == kind && items[i][l].cost < items[i][found.levels[i]].cost)
        found.levels[i] = static_cast<std::uint8_t>(l);
    found.cost += items[i][found.levels[i]].cost;
  }
  found.bound = found.cost;
  return found;
}

void FileKnapsack::refuse(std::uint64_t budget) const {
  const std::uint64_t least = smallest().bytes;
  throw InfeasibleError(
      fmt::format(
          "a budget of {} bytes is too small: the smallest model that this menu can make takes {} bytes "
          "({})",
          budget, least, format_bytes(least)),
      static_cast<double>(least));
}

FrontPoint FileKnapsack::best_within(std::uint64_t budget) const {
  const FileSizes::Sum sum = files_.sum_within(budget);
  const std::vector<std::vector<Choice>> items = choices(sum);
  const Knapsack knapsack(items);
  // The maximum of the sums; above 2^62 nothing changes any more.
  const std::int64_t room = static_cast<std::int64_t>(std::min(budget, std::uint64_t{1} << 62)) - sum.least;
  if (room < static_cast<std::int64_t>(knapsack.smallest())) refuse(budget);
  FrontPoint relaxed = knapsack.best_within(static_cast<std::uint64_t>(room));
  relaxed.bytes = size(relaxed.levels);
  if (relaxed.bytes <= budget) return relaxed;

  // A solution that fits, found by subtracting the excess from the budget.
  std::optional<FrontPoint> known;
  FrontPoint point = relaxed;
  for (int tries = 0; !known; ++tries) {
    const auto excess = static_cast<std::int64_t>(point.bytes - budget);
    std::int64_t less = static_cast<std::int64_t>(sum_of(items, point.levels)) - excess;
    if (tries == kTries) less = std::min<std::int64_t>(less, room - (sum.most - sum.least));
    if (less < static_cast<std::int64_t>(knapsack.smallest())) break;
    point = knapsack.best_within(static_cast<std::uint64_t>(less));
    point.bytes = size(point.levels);
    if (point.bytes <= budget) known = std::move(point);
  }
  if (!known) known = smallest();
  if (known->bytes > budget) refuse(budget);

  NearSum near;
  near.width = static_cast<std::uint64_t>(sum.most - sum.least);
  near.alike = alike_;
  near.fits = [&](const Point& levels) { return size(levels) <= budget; };
  FrontPoint best = knapsack.best_fitting(static_cast<std::uint64_t>(room), near, std::move(*known));
  best.bytes = size(best.levels);
  best.bound = std::max(best.bound, relaxed.bound);
  return best;
}

}  // namespace knapsaq
