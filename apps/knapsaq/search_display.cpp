#include "search_display.h"

#include <algorithm>
#include <cstdio>

#include <fmt/core.h>
#include <unistd.h>

#include "knapsaq/base/units.h"
#include "terminal_progress.h"

namespace knapsaq::command {
namespace {

// Five times a second is seen as motion; a small model gives more results than that.
constexpr std::chrono::milliseconds kRedraw{200};

}  // namespace

SearchDisplay::SearchDisplay(const SearchSpace& space, Divergence divergence, std::string strategy,
                             std::optional<Budget> budget)
    : space_(space),
      divergence_(divergence),
      strategy_(std::move(strategy)),
      budget_(budget),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      next_(start_) {}

SearchDisplay::~SearchDisplay() {
  if (!terminal_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

void SearchDisplay::show(const SearchStatus& status) {
  if (!terminal_) return;
  if (status.point != nullptr && status.measurement != nullptr) {
    const Outcome outcome{space_.bits(*status.point), status.measurement->value(divergence_)};
    front_.push_back(outcome);
    std::vector<Outcome> kept;
    for (const std::size_t index : knapsaq::front(front_)) kept.push_back(front_[index]);
    front_ = std::move(kept);
    if (budget_ && space_.fits(*status.point, *budget_))
      best_ = std::min(best_.value_or(outcome.divergence), outcome.divergence);
  }
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + kRedraw;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::string line = fmt::format("{} {}  front {}", strategy_, status.phase, front_.size());
  if (best_) line += fmt::format("  best {} {:.4g}", name_of(divergence_), *best_);
  line += fmt::format("  {} evaluations", status.evaluations);
  const std::int64_t left = std::max<std::int64_t>(0, status.expected - status.evaluations);
  if (status.measured > 0 && status.expected > 0)
    line += fmt::format(
        " of {}  {} left", status.expected,
        format_seconds(seconds / static_cast<double>(status.measured) * static_cast<double>(left)));
  line.resize(std::min(line.size(), terminal_width() - 1));
  fmt::print(stderr, "\r{}\x1b[K", line);
  std::fflush(stderr);
}

}  // namespace knapsaq::command
