#include "terminal_progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"
#include "knapsaq/base/units.h"

namespace knapsaq::command {
namespace {

// Ten times a second looks smooth and costs nothing.
constexpr std::chrono::milliseconds kRedraw{100};
constexpr int kBarWidth = 20;

std::string short_number(double value) {
  for (const auto& [limit, unit] : {std::pair{1e9, 'G'}, std::pair{1e6, 'M'}, std::pair{1e3, 'k'}})
    if (value >= limit) return fmt::format("{:.1f}{}", value / limit, unit);
  return fmt::format("{:.{}f}", value, value < 10 && value != static_cast<int>(value) ? 1 : 0);
}

}  // namespace

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

void TerminalProgress::begin(std::string_view what, std::uint64_t total, std::string_view unit) {
  const std::lock_guard lock(mutex_);
  what_ = what;
  unit_ = unit;
  total_ = total;
  done_ = 0;
  start_ = Clock::now();
  next_draw_ = (start_ + kRedraw).time_since_epoch().count();
}

void TerminalProgress::advance(std::uint64_t done) {
  const std::uint64_t now_done = done_.fetch_add(done) + done;
  const Clock::time_point now = Clock::now();
  Clock::rep due = next_draw_.load();
  // Whoever wins the exchange draws; the others go on working.
  if (now.time_since_epoch().count() < due ||
      !next_draw_.compare_exchange_strong(due, (now + kRedraw).time_since_epoch().count()))
    return;
  draw(now_done);
}

void TerminalProgress::draw(std::uint64_t done) {
  const std::lock_guard lock(mutex_);
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
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
       {fmt::format("  {} left", format_seconds(left)), fmt::format("  {} {}/s", short_number(rate), unit_),
        fmt::format("  {}/{}", short_number(static_cast<double>(done)),
                    short_number(static_cast<double>(total_)))}) {
    if (line.size() + part.size() > width) break;
    line += part;
  }
  line.resize(std::min(line.size(), width));
  fmt::print(stderr, "\r{}\x1b[K", line);
  std::fflush(stderr);
}

void TerminalProgress::end() {
  const std::lock_guard lock(mutex_);
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

Progress& progress() {
  static TerminalProgress terminal;
  return ::isatty(STDERR_FILENO) != 0 ? static_cast<Progress&>(terminal) : Progress::none();
}

}  // namespace knapsaq::command
