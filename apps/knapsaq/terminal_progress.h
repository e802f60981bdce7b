#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "knapsaq/base/progress.h"

namespace knapsaq::command {

/// Columns of the terminal that standard error is; 80 if it is none.
std::size_t terminal_width();

/// One line on standard error that is drawn over again: what, a bar, percent, rate, time left.
class TerminalProgress final : public Progress {
 public:
  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override;
  void advance(std::uint64_t done) override;
  void end() override;

 private:
  using Clock = std::chrono::steady_clock;
  void draw(std::uint64_t done);

  std::mutex mutex_;
  std::string what_;
  std::string unit_;
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> done_{0};
  Clock::time_point start_;
  std::atomic<Clock::rep> next_draw_{0};
};

}  // namespace knapsaq::command
