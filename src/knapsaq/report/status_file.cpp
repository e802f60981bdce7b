#include "knapsaq/report/status_file.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/core.h>
#include <pthread.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/memory.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/base/retried.h"
#include "knapsaq/base/units.h"
#include "knapsaq/report/run_status.h"
#include "knapsaq/search/run_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kInterval{1};
constexpr std::size_t kMostLines = 300;
/// Speed of a search is a mean over so many intervals.
constexpr std::size_t kSpeedSamples = 20;
/// Shorter stages are not worth a line in the log.
constexpr double kShortStage = 0.5;
/// Its name, by which debuggers, and tests that count calls of the system, know it.
constexpr const char* kStatusThread = "run status";
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Replaces the file. Without a sync: after a crash of the system nobody misses it.
void replace_file(const fs::path& path, std::string_view text) {
  PartialOutput partial(path, PartialOutput::Kind::file);
  while (!text.empty()) {
    const ssize_t written = retried([&] { return ::write(partial.descriptor(), text.data(), text.size()); });
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::rename(partial.path().c_str(), path.c_str()) == 0) partial.forget();
}

}  // namespace

struct StatusFile::State {
  explicit State(fs::path run) : folder(std::move(run)) {
    status.process = this_process();
    status.started = unix_time();
  }

  struct OpenStage {
    std::string name;
    std::string unit;
    std::uint64_t total = 0;
    std::uint64_t done = 0;  ///< of one that another stage interrupts
    Clock::time_point start;
  };

  struct SearchFacts {
    const SearchSpace* space = nullptr;
    Divergence divergence = Divergence::kl;
    double best = std::numeric_limits<double>::infinity();  ///< divergence at the budget
    Point best_point;
    double logged = std::numeric_limits<double>::infinity();         ///< the best that the log knows
    std::deque<std::pair<Clock::time_point, std::int64_t>> samples;  ///< evaluations at a time
  };

  // With the lock held:
  void log(std::string_view text) {
    status.log.push_back({unix_time(), std::string(text)});
    if (status.log.size() > kMostLines) status.log.erase(status.log.begin());
  }
  void log_best();
  void end_search();
  std::string compose();

  // Without:
  void write() noexcept;
  void keep_writing(const std::stop_token& token);

  const fs::path folder;
  std::mutex mutex;  ///< of everything below
  std::condition_variable_any wake;
  RunStatus status;  ///< stage, memory and times are filled in by compose()
  std::vector<OpenStage> stages;
  std::optional<SearchFacts> search;
  std::atomic<std::uint64_t> done{0};  ///< of the innermost stage
  bool cleared = false;                ///< of what a killed process left of the file
  std::jthread writer;                 ///< last: it uses the others
};

void StatusFile::State::log_best() {
  if (!search || !status.budget || !(search->best < search->logged)) return;
  search->logged = search->best;
  log(fmt::format("best at the budget: {} divergence {:.4g} with {:.3f} bits, {}",
                  search->divergence == Divergence::kl ? "KL" : "Jensen-Shannon", search->best,
                  search->space->bits(search->best_point),
                  format_bytes(search->space->bytes(search->best_point))));
}

void StatusFile::State::end_search() {
  if (!search) return;
  log_best();
  if (status.search)
    log(fmt::format("search: {} evaluations, {} of them measured now, in {}", status.search->evaluations,
                    status.search->measured, format_seconds(status.search->seconds)));
  search.reset();
  status.search.reset();
}

std::string StatusFile::State::compose() {
  status.updated = unix_time();
  status.resident = resident_memory();
  status.peak = peak_resident_memory();
  status.stage.reset();
  if (!stages.empty()) {
    const OpenStage& open = stages.back();
    RunStatus::Stage& stage = status.stage.emplace();
    stage.name = open.name;
    stage.unit = open.unit;
    stage.total = open.total;
    stage.done = done.load(std::memory_order_relaxed);
    stage.seconds = seconds_since(open.start);
    stage.rate = stage.seconds > 0 ? static_cast<double>(stage.done) / stage.seconds : kNaN;
    stage.left = stage.done > 0
                     ? static_cast<double>(stage.total - std::min(stage.total, stage.done)) / stage.rate
                     : kNaN;
  }
  if (search && status.search) {
    auto& samples = search->samples;
    samples.emplace_back(Clock::now(), status.search->evaluations);
    if (samples.size() > kSpeedSamples) samples.pop_front();
    const double seconds =
        std::chrono::duration<double>(samples.back().first - samples.front().first).count();
    const auto evaluations = static_cast<double>(samples.back().second - samples.front().second);
    status.search->rate = seconds > 0 ? evaluations / seconds : kNaN;
    const auto left =
        static_cast<double>(std::max<std::int64_t>(0, status.search->expected - status.search->evaluations));
    status.search->left =
        status.search->expected > 0 && status.search->rate > 0 ? left / status.search->rate : kNaN;
  }
  return to_text(status);
}

void StatusFile::State::write() noexcept {
  try {
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) return;
    const fs::path path = folder / kStatusName;
    std::string text;
    {
      const std::lock_guard lock(mutex);
      text = compose();
    }
    if (!std::exchange(cleared, true)) remove_leftovers(path);
    replace_file(path, text);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // A full disk, a folder that may not be written: the run is worth more than its page.
  }
}

void StatusFile::State::keep_writing(const std::stop_token& token) {
  ::pthread_setname_np(::pthread_self(), kStatusThread);
  while (!token.stop_requested()) {
    write();
    std::unique_lock lock(mutex);
    wake.wait_for(lock, token, kInterval, [] { return false; });
  }
  write();
}

StatusFile::StatusFile(const fs::path& run) : state_(std::make_unique<State>(run)) {
  state_->writer =
      std::jthread([state = state_.get()](const std::stop_token& token) { state->keep_writing(token); });
}

StatusFile::~StatusFile() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->end_search();
    if (state_->status.state == RunStatus::State::running) {
      state_->status.state = RunStatus::State::stopped;
      state_->log("stopped");
    }
    state_->stages.clear();
  }
  // The thread writes a last time.
  state_->writer.request_stop();
  state_->writer.join();
}

void StatusFile::begin(std::string_view what, std::uint64_t total, std::string_view unit) {
  const std::lock_guard lock(state_->mutex);
  if (!state_->stages.empty()) state_->stages.back().done = state_->done.load();
  state_->stages.push_back({std::string(what), std::string(unit), total, 0, Clock::now()});
  state_->done.store(0);
}

void StatusFile::advance(std::uint64_t done) { state_->done.fetch_add(done, std::memory_order_relaxed); }

void StatusFile::end() {
  const std::lock_guard lock(state_->mutex);
  if (state_->stages.empty()) return;
  const State::OpenStage stage = std::move(state_->stages.back());
  const std::uint64_t done = state_->done.load();
  state_->stages.pop_back();
  state_->done.store(state_->stages.empty() ? 0 : state_->stages.back().done);
  const double seconds = seconds_since(stage.start);
  if (seconds >= kShortStage)
    state_->log(fmt::format("{}: {} {} in {}", stage.name, done, stage.unit, format_seconds(seconds)));
}

void StatusFile::budget(const Budget& budget) {
  const std::lock_guard lock(state_->mutex);
  state_->status.budget = budget;
}

void StatusFile::search_begins(const SearchSpace& space, Divergence divergence, std::string_view strategy,
                               bool can_stop) {
  const std::lock_guard lock(state_->mutex);
  State::SearchFacts& facts = state_->search.emplace();
  facts.space = &space;
  facts.divergence = divergence;
  RunStatus::Search& search = state_->status.search.emplace();
  search.strategy = strategy;
  search.can_stop = can_stop;
  search.rate = search.left = kNaN;
  state_->log(fmt::format("search: {} over {} linears", strategy, space.linears.size()));
}

void StatusFile::searching(const SearchStatus& status) {
  const std::lock_guard lock(state_->mutex);
  if (!state_->search) return;
  State::SearchFacts& facts = *state_->search;
  RunStatus::Search& search = *state_->status.search;
  if (search.phase != status.phase) {
    state_->log_best();
    search.phase = status.phase;
    state_->log(fmt::format("{}: {} candidates", status.phase, status.planned));
  }
  search.evaluations = status.evaluations;
  search.measured = status.measured;
  search.expected = status.expected;
  search.full_passes = status.full_passes;
  search.seconds = status.seconds;
  if (status.point == nullptr || status.measurement == nullptr || !state_->status.budget) return;
  const double value = status.measurement->value(facts.divergence);
  if (!(value < facts.best) || !facts.space->fits(*status.point, *state_->status.budget)) return;
  facts.best = value;
  facts.best_point = *status.point;
}

void StatusFile::search_ends() {
  const std::lock_guard lock(state_->mutex);
  state_->end_search();
}

void StatusFile::note(std::string_view text) {
  const std::lock_guard lock(state_->mutex);
  state_->log(text);
}

void StatusFile::finished(std::string_view text) {
  const std::lock_guard lock(state_->mutex);
  state_->end_search();
  state_->status.state = RunStatus::State::finished;
  state_->log(text);
}

void StatusFile::failed(std::string_view reason) {
  const std::lock_guard lock(state_->mutex);
  state_->end_search();
  state_->status.state = RunStatus::State::failed;
  state_->log(reason);
}

}  // namespace knapsaq
