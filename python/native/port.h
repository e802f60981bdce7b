#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/pipeline/listener.h"
#include "knapsaq/search/front.h"

namespace knapsaq::python {

// What work says of itself, kept until Python asks for it.
struct StageBegan {
  std::string what;
  std::uint64_t total = 0;
  std::string unit;
};
struct StageAdvanced {
  std::uint64_t done = 0;  ///< of the stage's total
};
struct StageEnded {};
struct Noted {
  std::string line;
};
struct TextGrew {
  std::string piece;
};
/// A search, after its newest measurement.
struct Searching {
  std::string strategy;
  std::string phase;
  std::string divergence;  ///< "kl" or "jsd"
  std::int64_t evaluations = 0;
  std::int64_t measured = 0;   ///< of these, not known before
  std::int64_t expected = 0;   ///< evaluations in all; 0: not known
  std::size_t front = 0;       ///< points on the front so far
  std::optional<double> best;  ///< least divergence within the budget
};
struct SearchEnded {};
using Event = std::variant<StageBegan, StageAdvanced, StageEnded, Noted, TextGrew, Searching, SearchEnded>;

/// Where a thread that works and the thread that waits for it meet: events one way, a request to stop the
/// other.
///
/// Nothing here touches Python: work never waits for the interpreter.
class Port final : public Listener {
 public:
  /// `listens`: whether anybody will ask for the events of stages and searches. `watches`: runs get a page
  /// that follows them (launch_server()), and a note says where.
  explicit Port(bool listens, bool watches = false) : listens_(listens), watches_(watches) {}

  Cancellation& cancellation() { return cancellation_; }
  /// For the next work.
  void begin_work(bool listens);
  void end_work();
  /// Waits until the work has ended, text has come, or so many seconds have passed; true: the work has ended.
  bool wait(double seconds);
  /// What has happened since the last call. Steps in between are left out: of a stage and of a search only
  /// the newest state counts.
  std::vector<Event> take();

  void add_text(const std::string& piece);

  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override;
  void advance(std::uint64_t done) override;
  void end() override;
  void note(std::string_view line) override;
  void run_begins(const std::filesystem::path& folder) override;
  void search_begins(const SearchView& view) override;
  void searching(const SearchStatus& status) override;
  void search_ends() override;

 private:
  void add(Event event);

  Cancellation cancellation_;
  std::atomic<bool> listens_;
  const bool watches_;
  std::atomic<std::uint64_t> done_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  bool text_came_ = false;
  bool in_stage_ = false;
  std::uint64_t shown_ = 0;  ///< of done_, in the last event of the stage
  std::vector<Event> events_;

  // Of a search; the working thread's alone.
  SearchView search_;
  std::vector<Outcome> front_;
  std::optional<double> best_;
};

}  // namespace knapsaq::python
