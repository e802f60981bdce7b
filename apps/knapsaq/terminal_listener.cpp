#include "terminal_listener.h"

#include <algorithm>
#include <cstdio>

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/search/run_search.h"
#include "knapsaq/watch/launch_server.h"

namespace knapsaq::command {
namespace {

// Ten times a second looks smooth and costs nothing.
constexpr std::chrono::milliseconds kRedraw{100};
// Five times a second is seen as motion; a small model gives more results than that.
constexpr std::chrono::milliseconds kRedrawSearch{200};
constexpr int kBarWidth = 20;

/// Columns of the terminal that standard error is; 80 if it does not say.
std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string short_number(double value) {
  for (const auto& [limit, unit] : {std::pair{1e9, 'G'}, std::pair{1e6, 'M'}, std::pair{1e3, 'k'}})
    if (value >= limit) return fmt::format("{:.1f}{}", value / limit, unit);
  return fmt::format("{:.{}f}", value, value < 10 && value != static_cast<int>(value) ? 1 : 0);
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

TerminalListener::TerminalListener() : terminal_(::isatty(STDERR_FILENO) != 0) {}

void TerminalListener::begin(std::string_view what, std::uint64_t total, std::string_view unit) {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  what_ = what;
  so_far_.clear();
  unit_ = unit;
  total_ = total;
  done_ = 0;
  start_ = Clock::now();
  next_draw_ = (start_ + kRedraw).time_since_epoch().count();
}

void TerminalListener::advance(std::uint64_t done) {
  if (!terminal_) return;
  const std::uint64_t now_done = done_.fetch_add(done) + done;
  const Clock::time_point now = Clock::now();
  Clock::rep due = next_draw_.load();
  // Whoever wins the exchange draws; the others go on working.
  if (now.time_since_epoch().count() < due ||
      !next_draw_.compare_exchange_strong(due, (now + kRedraw).time_since_epoch().count()))
    return;
  draw_stage(now_done);
}

void TerminalListener::draw_stage(std::uint64_t done) {
  const std::lock_guard lock(mutex_);
  const double seconds = seconds_between(start_, Clock::now());
  const double share =
      total_ > 0 ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total_)) : 0;
  const int filled = static_cast<int>(share * kBarWidth);
  const double rate = static_cast<double>(done) / std::max(seconds, 1e-9);
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  std::string line = fmt::format("{} [{}{}] {:3.0f} %", what_, std::string(filled, '#'),
                                 std::string(kBarWidth - filled, '.'), share * 100);
  // What matters most comes first; a line that wraps could not be drawn over.
  const std::size_t width = terminal_width() - 1;
  for (const std::string& part :
       {fmt::format("  {} left", format_seconds(left)), so_far_.empty() ? so_far_ : "  " + so_far_,
        fmt::format("  {} {}/s", short_number(rate), unit_),
        fmt::format("  {}/{}", short_number(static_cast<double>(done)),
                    short_number(static_cast<double>(total_)))}) {
    if (line.size() + part.size() > width) break;
    line += part;
  }
  draw(std::move(line));
}

void TerminalListener::end() {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  clear();
}

void TerminalListener::note(std::string_view line) {
  if (terminal_) clear();
  fmt::print(stderr, "note: {}\n", line);
}

void TerminalListener::so_far(std::string_view what) {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  so_far_ = what;
}

void TerminalListener::run_begins(const std::filesystem::path& folder) {
  if (!pages_) return;
  if (terminal_) clear();
  try {
    fmt::print(stderr, "watch: {}\n", launch_server(std::filesystem::read_symlink("/proc/self/exe"), folder));
  } catch (const Error& error) {
    // The run is worth more than its page.
    fmt::print(stderr, "note: {}\n", error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    fmt::print(stderr, "note: {}\n", error.what());
  }
  std::fflush(stderr);
}

void TerminalListener::search_begins(const SearchView& view) {
  search_ = view;
  front_.clear();
  best_.reset();
  search_start_ = next_search_draw_ = Clock::now();
}

void TerminalListener::searching(const SearchStatus& status) {
  if (!terminal_) return;
  if (status.point != nullptr && status.measurement != nullptr) {
    const SearchSpace& space = *search_.space;
    const Outcome outcome{space.bits(*status.point), status.measurement->value(search_.divergence)};
    front_.push_back(outcome);
    std::vector<Outcome> kept;
    for (const std::size_t index : knapsaq::front(front_)) kept.push_back(front_[index]);
    front_ = std::move(kept);
    if (search_.budget && space.fits(*status.point, *search_.budget))
      best_ = std::min(best_.value_or(outcome.divergence), outcome.divergence);
  }
  const Clock::time_point now = Clock::now();
  if (now < next_search_draw_) return;
  next_search_draw_ = now + kRedrawSearch;
  draw_search(status);
}

void TerminalListener::draw_search(const SearchStatus& status) {
  const double seconds = seconds_between(search_start_, Clock::now());
  std::string line = fmt::format("{} {}  front {}", search_.strategy, status.phase, front_.size());
  if (best_) line += fmt::format("  best {} {:.4g}", name_of(search_.divergence), *best_);
  line += fmt::format("  {} evaluations", status.evaluations);
  const std::int64_t left = std::max<std::int64_t>(0, status.expected - status.evaluations);
  if (status.measured > 0 && status.expected > 0)
    line += fmt::format(
        " of {}  {} left", status.expected,
        format_seconds(seconds / static_cast<double>(status.measured) * static_cast<double>(left)));
  draw(std::move(line));
}

void TerminalListener::search_ends() {
  if (terminal_) clear();
}

void TerminalListener::draw(std::string line) {
  line.resize(std::min(line.size(), terminal_width() - 1));
  fmt::print(stderr, "\r{}\x1b[K", line);
  std::fflush(stderr);
}

void TerminalListener::clear() {
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace knapsaq::command
