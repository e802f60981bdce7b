#include "knapsaq/search/core.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "knapsaq/base/cancellation.h"

namespace knapsaq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint32_t kRoot = std::numeric_limits<std::uint32_t>::max();

/// A level instead of the corner's.
struct Change {
  std::int64_t weight = 0;  ///< more than the corner's; 0 only with a window
  double loss = 0;
  std::uint32_t level = 0;
};

struct Item {
  std::size_t index = 0;  ///< in the problem
  std::vector<Change> changes;
  double least_rate = kInfinity;  ///< least loss per unit of weight of its changes, either way
};

double rate(const Change& change) {
  return change.weight == 0 ? kInfinity : change.loss / static_cast<double>(std::abs(change.weight));
}

/// Changes to the first items of the order.
struct State {
  std::int64_t weight = 0;
  double loss = 0;
  std::uint32_t node = kRoot;    ///< its last change but for `change`
  std::uint32_t change = kRoot;  ///< its change of the current item, if it has one
};

/// A change in the chain that leads to a state.
struct Node {
  std::uint32_t before = kRoot;
  std::uint32_t item = 0;
  std::uint32_t level = 0;
};

/// What the remaining items can contribute.
struct Rest {
  double up_rate = kInfinity;    ///< least loss per unit of added weight
  double down_rate = kInfinity;  ///< least loss per unit of removed weight
  std::int64_t down = 0;         ///< most weight that they remove
};

class Core {
 public:
  Core(const ExactProblem& problem, const Levels& corner, std::int64_t room, double price, std::size_t most,
       const Window* window)
      : problem_(problem),
        corner_(corner),
        room_(room),
        price_(price),
        most_(most),
        window_(window),
        width_(window == nullptr ? 0 : window->width) {}

  Completion run();

 private:
  void collect();
  void fill_greedily();
  void start_from_known();
  void drop_hopeless();
  void sort_items();
  void prepare_rests();
  double bound(std::int64_t weight, double loss, const Rest& rest) const;
  double value(const State& state) const {
    return state.loss + price_ * static_cast<double>(room_ - state.weight);
  }
  void change_item(std::size_t at);
  void append_changed(std::int64_t weight, double loss, std::uint32_t change, const Rest& rest);
  void merge_candidates();
  void limit(const Rest& rest, std::size_t most);
  void name_states(std::size_t at);
  bool fits(const State& state) const;
  Levels levels_of(std::uint32_t node) const;

  const ExactProblem& problem_;
  const Levels& corner_;
  const std::int64_t room_;
  const double price_;
  const std::size_t most_;
  const Window* const window_;
  const std::int64_t width_;

  std::vector<Item> items_;
  std::vector<Rest> rests_;                                  ///< [n]: of items_[n..]
  std::vector<State> states_, candidates_, merged_, spare_;  ///< ascending by weight, descending by cost
  std::vector<Node> nodes_;

  double best_value_ = kInfinity;  ///< of the best known solution, above the relaxation's bound
  std::int64_t best_weight_ = 0;
  std::uint32_t best_node_ = kRoot;
  Levels best_levels_;  ///< while the best is not a state
  bool best_is_state_ = false;
  double allowed_ = kInfinity;  ///< bounds above this are out
  double tolerance_ = 0;        ///< values closer than this are the same
  double dropped_ = kInfinity;  ///< least bound of the states dropped by the limit
};

/// All changes, and the precision of their losses.
void Core::collect() {
  double range = 0;
  for (std::size_t i = 0; i < problem_.items.size(); ++i) {
    const std::vector<Level>& levels = problem_.items[i];
    const Level& now = levels[corner_[i]];
    for (const Level& level : levels) range = std::max(range, level.cost);
    Item item;
    item.index = i;
    for (std::size_t l = 0; l < levels.size(); ++l) {
      if (l == corner_[i]) continue;
      Change change;
      change.weight = levels[l].weight - now.weight;
      // Corners lie on the hull: less than 0 is rounding.
      change.loss = std::max(0.0, levels[l].cost - now.cost + price_ * static_cast<double>(change.weight));
      change.level = static_cast<std::uint32_t>(l);
      item.changes.push_back(change);
    }
    if (!item.changes.empty()) items_.push_back(std::move(item));
  }
  sort_items();
  // Losses are differences of costs within an item, so they are exact to about 1e-16 of the widest item; a
  // solution has few changes.
  tolerance_ = 1e-14 * range;
}

/// A first solution: the changes that lose least and fit, as long as they improve it.
void Core::fill_greedily() {
  best_levels_ = corner_;
  std::int64_t left = room_;
  double loss = 0;
  for (const Item& item : items_) {
    const Change* best = nullptr;
    double gain = 0;
    for (const Change& change : item.changes) {
      if (change.weight > left) continue;
      const double gained = price_ * static_cast<double>(change.weight) - change.loss;
      if (gained > gain) {
        gain = gained;
        best = &change;
      }
    }
    if (best == nullptr) continue;
    left -= best->weight;
    loss += best->loss;
    best_levels_[item.index] = best->level;
  }
  best_value_ = loss + price_ * static_cast<double>(left);
  best_weight_ = room_ - left;
  allowed_ = best_value_ + tolerance_;
}

/// The solution known to the window, or the corner if that is better.
void Core::start_from_known() {
  best_value_ = window_->value;
  best_weight_ = room_;
  const State corner;
  if (value(corner) < best_value_ && fits(corner)) {
    best_value_ = value(corner);
    best_weight_ = 0;
    best_levels_ = corner_;
  }
  allowed_ = best_value_ + tolerance_;
}

/// Drops the changes that alone lose more than is allowed.
void Core::drop_hopeless() {
  for (Item& item : items_)
    std::erase_if(item.changes, [&](const Change& change) { return change.loss > allowed_; });
  std::erase_if(items_, [](const Item& item) { return item.changes.empty(); });
  sort_items();
}

void Core::sort_items() {
  for (Item& item : items_) {
    item.least_rate = kInfinity;
    for (const Change& change : item.changes) item.least_rate = std::min(item.least_rate, rate(change));
  }
  std::stable_sort(items_.begin(), items_.end(),
                   [](const Item& a, const Item& b) { return a.least_rate < b.least_rate; });
}

void Core::prepare_rests() {
  rests_.assign(items_.size() + 1, {});
  for (std::size_t n = items_.size(); n-- > 0;) {
    Rest rest = rests_[n + 1];
    std::int64_t down = 0;
    for (const Change& change : items_[n].changes) {
      if (change.weight == 0) continue;
      if (change.weight > 0) {
        rest.up_rate = std::min(rest.up_rate, rate(change));
      } else {
        rest.down_rate = std::min(rest.down_rate, rate(change));
        down = std::max(down, -change.weight);
      }
    }
    rest.down += down;
    rests_[n] = rest;
  }
}

/// A lower bound for everything that begins with such a state.
double Core::bound(std::int64_t weight, double loss, const Rest& rest) const {
  const std::int64_t left = room_ - weight;
  if (left >= 0) return loss + std::min(price_, rest.up_rate) * static_cast<double>(left);
  return -left > rest.down ? kInfinity : loss + rest.down_rate * static_cast<double>(-left);
}

void Core::append_changed(std::int64_t weight, double loss, std::uint32_t change, const Rest& rest) {
  for (const State& state : states_) {
    const State next{state.weight + weight, state.loss + loss, state.node, change};
    if (bound(next.weight, next.loss, rest) > allowed_) continue;
    if (next.weight <= room_ - width_) allowed_ = std::min(allowed_, value(next) + tolerance_);
    candidates_.push_back(next);
  }
}

/// Merges merged_ and candidates_ into one list without dominated and equal states; with a window, the
/// dominating state must be lighter by its width.
void Core::merge_candidates() {
  spare_.clear();
  std::size_t lighter = 0;  // of spare_: those whose costs are in `least`
  const auto cost = [&](const State& state) {
    return state.loss - price_ * static_cast<double>(state.weight);
  };
  double least = kInfinity;
  auto a = merged_.cbegin();
  auto b = candidates_.cbegin();
  while (a != merged_.cend() || b != candidates_.cend()) {
    bool first = b == candidates_.cend();
    if (!first && a != merged_.cend())
      first = a->weight != b->weight ? a->weight < b->weight : cost(*a) <= cost(*b);
    const State& next = first ? *a++ : *b++;
    for (; lighter < spare_.size() && spare_[lighter].weight <= next.weight - width_; ++lighter)
      least = std::min(least, cost(spare_[lighter]));
    if (cost(next) >= least) continue;
    spare_.push_back(next);
  }
  merged_.swap(spare_);
}

/// Keeps the most promising states if there are too many.
void Core::limit(const Rest& rest, std::size_t most) {
  if (merged_.size() <= most) return;
  std::vector<std::pair<double, std::size_t>> order;
  order.reserve(merged_.size());
  for (std::size_t i = 0; i < merged_.size(); ++i)
    order.emplace_back(bound(merged_[i].weight, merged_[i].loss, rest), i);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(most);
  std::nth_element(order.begin(), middle, order.end());
  dropped_ = std::min(dropped_, middle->first);
  std::sort(order.begin(), middle, [](const auto& a, const auto& b) { return a.second < b.second; });
  std::vector<State> kept;
  kept.reserve(most);
  std::for_each(order.begin(), middle, [&](const auto& entry) { kept.push_back(merged_[entry.second]); });
  merged_.swap(kept);
}

/// Gives the changed states their nodes and finds the best of them.
void Core::name_states(std::size_t at) {
  for (State& state : merged_) {
    if (state.change == kRoot) continue;
    nodes_.push_back({state.node, static_cast<std::uint32_t>(at), items_[at].changes[state.change].level});
    state.node = static_cast<std::uint32_t>(nodes_.size() - 1);
    state.change = kRoot;
    if (state.weight > room_) continue;
    const double own = value(state);
    if ((own < best_value_ - tolerance_ ||
         (own <= best_value_ + tolerance_ && state.weight < best_weight_)) &&
        fits(state)) {
      best_value_ = std::min(own, best_value_);
      best_weight_ = state.weight;
      best_node_ = state.node;
      best_is_state_ = true;
    }
  }
  allowed_ = std::min(allowed_, best_value_ + tolerance_);
}

/// Levels after the chain of changes that ends at `node`.
Levels Core::levels_of(std::uint32_t node) const {
  Levels levels = corner_;
  for (; node != kRoot; node = nodes_[node].before)
    levels[items_[nodes_[node].item].index] = nodes_[node].level;
  return levels;
}

/// Of a state within the room whose changes all have nodes.
bool Core::fits(const State& state) const {
  return state.weight <= room_ - width_ || window_->fits(levels_of(state.node));
}

void Core::change_item(std::size_t at) {
  const Rest& rest = rests_[at + 1];
  merged_.clear();
  for (const State& state : states_) {
    if (bound(state.weight, state.loss, rest) <= allowed_) merged_.push_back(state);
  }
  for (std::size_t c = 0; c < items_[at].changes.size(); ++c) {
    const Change& change = items_[at].changes[c];
    if (bound(change.weight, change.loss, rests_[0]) > allowed_) continue;
    candidates_.clear();
    append_changed(change.weight, change.loss, static_cast<std::uint32_t>(c), rest);
    if (candidates_.empty()) continue;
    merge_candidates();
    limit(rest, 2 * most_);
  }
  limit(rest, most_);
  name_states(at);
  states_.swap(merged_);
}

Completion Core::run() {
  collect();
  if (window_ == nullptr) {
    fill_greedily();
  } else {
    start_from_known();
  }
  drop_hopeless();
  prepare_rests();
  states_.push_back({});
  const std::size_t most_nodes = 16 * most_;
  for (std::size_t at = 0; at < items_.size() && !states_.empty(); ++at) {
    check_cancelled();
    if (nodes_.size() > most_nodes) {
      // Unfinished work counts as dropped.
      for (const State& state : states_)
        dropped_ = std::min(dropped_, bound(state.weight, state.loss, rests_[at]));
      break;
    }
    change_item(at);
  }

  Completion completion;
  completion.doubt = std::max(0.0, best_value_ - dropped_);
  completion.levels = best_is_state_ ? levels_of(best_node_) : std::move(best_levels_);
  return completion;
}

}  // namespace

Completion complete(const ExactProblem& problem, const Levels& corner, std::int64_t room, double price,
                    std::size_t most_states, const Window* window) {
  return Core(problem, corner, room, price, most_states, window).run();
}

}  // namespace knapsaq
