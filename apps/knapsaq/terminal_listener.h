#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/listener.h"
#include "knapsaq/search/front.h"

namespace knapsaq::command {

/// Shows work on standard error: notes as lines; where that is a terminal, also one line that is drawn over
/// again. For a stage: what, a bar, percent, rate, time left. For a search: phase, size of the front, the
/// best within the budget, evaluations, time left.
class TerminalListener final : public Listener {
 public:
  TerminalListener();
  /// Whether the pages of runs are served, by processes of their own (launch_server()), and their addresses
  /// shown.
  void serve_pages(bool serve) { pages_ = serve; }

  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override;
  void advance(std::uint64_t done) override;
  void end() override;
  void note(std::string_view line) override;
  void so_far(std::string_view what) override;
  void run_begins(const std::filesystem::path& folder) override;
  void search_begins(const SearchView& view) override;
  void searching(const SearchStatus& status) override;
  void search_ends() override;

 private:
  using Clock = std::chrono::steady_clock;
  void draw_stage(std::uint64_t done);
  void draw_search(const SearchStatus& status);
  static void draw(std::string line);
  static void clear();

  const bool terminal_;
  bool pages_ = false;

  // Of a stage.
  std::mutex mutex_;
  std::string what_;
  std::string so_far_;
  std::string unit_;
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> done_{0};
  Clock::time_point start_;
  std::atomic<Clock::rep> next_draw_{0};

  // Of a search.
  SearchView search_;
  std::vector<Outcome> front_;  ///< ascending by size
  std::optional<double> best_;  ///< divergence of the best point within the budget
  Clock::time_point search_start_;
  Clock::time_point next_search_draw_;
};

}  // namespace knapsaq::command
