#include "knapsaq/watch/run_follower.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/pipeline/make_report.h"
#include "knapsaq/report/study_report.h"
#include "knapsaq/search/run.h"
#include "knapsaq/search/run_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLeastRest{2};
constexpr int kRestFactor = 50;
constexpr std::uint64_t kMostStatusBytes = std::uint64_t{1} << 20;
/// A process that cannot be seen from here (a container's) runs if it has written so lately, in seconds.
constexpr double kFresh = 5;

/// What tells a version of a file from another; empty for none.
std::string stamp(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return fmt::format("{} {} {}.{}", status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

struct RunFollower::Impl {
  Impl(fs::path of_run, fs::path of_model) : folder(std::move(of_run)), model(std::move(of_model)) {}

  /// Of all files that the data are collected from.
  std::string data_stamp() const {
    std::string text = stamp(archive());
    if (text.empty()) return text;
    text += "/" + stamp(archive() += "-wal") + "/" + stamp(folder / kStudyName) + "/" +
            stamp(folder / "written-models") + "/" + stamp(folder / "tasks");
    return text;
  }
  fs::path archive() const { return folder / kArchiveName; }

  void read_status();
  void collect(const std::string& now);
  void work(const std::stop_token& token);

  const fs::path folder;
  const fs::path model;

  // Of the worker alone:
  std::optional<Run> run;
  ErrorTable table;
  std::string run_stamp;  ///< inode of the archive that it is of

  mutable std::mutex mutex;  ///< of everything below
  std::condition_variable_any wake;
  bool wanted = false;
  std::string status_stamp;
  std::optional<RunStatus> status;
  bool alive = false;
  std::string collected;  ///< data_stamp() of `json`, or of what could not be read
  std::shared_ptr<const std::string> json;
  std::string tag;
  std::string problem;
  std::jthread worker;  ///< last: it uses the others
};

/// With the lock held.
void RunFollower::Impl::read_status() {
  const fs::path path = folder / kStatusName;
  const std::string now = stamp(path);
  if (now != status_stamp) {
    status_stamp = now;
    status.reset();
    try {
      if (!now.empty()) status = parse_run_status(read_file(path, kMostStatusBytes));
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
      // A file of another version, or of somebody else: the archive is followed all the same.
    }
  }
  alive = status && status->state == RunStatus::State::running &&
          (is_running(status->process) || std::abs(unix_time() - status->updated) < kFresh);
}

void RunFollower::Impl::collect(const std::string& now) {
  std::shared_ptr<const std::string> text;
  std::string trouble;
  try {
    const std::string inode = now.substr(0, now.find(' '));
    if (!run || inode != run_stamp) {
      run.reset();
      run.emplace(Run::open(folder, Access::read, model));
      table = run->bank().table();
      run_stamp = inode;
    }
    text = std::make_shared<const std::string>(
        to_json(report_of(*run, table)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } catch (const std::exception& error) {
    run.reset();
    // Until the search has begun there is an archive without a run.
    if (has_run(folder)) trouble = error.what();
  }
  const std::lock_guard lock(mutex);
  collected = now;
  problem = std::move(trouble);
  if (!text) return;
  tag = hash_hex(*text);
  json = std::move(text);
}

void RunFollower::Impl::work(const std::stop_token& token) {
  bool was_alive = false;
  while (!token.stop_requested()) {
    std::unique_lock lock(mutex);
    if (!wake.wait(lock, token, [this] { return wanted; })) return;
    wanted = false;
    const bool ended = was_alive && !alive;
    was_alive = alive;
    const bool lives = alive;
    const std::string known = collected;
    lock.unlock();
    const std::string now = data_stamp();
    if (now.empty() || (now == known && !ended)) continue;
    // A connection that was opened beside a writer leaves SQLite's files behind; a new one takes them away.
    if (ended) run.reset();
    const Clock::time_point start = Clock::now();
    try {
      collect(now);
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // No memory, or the archive went away meanwhile: the next look tries again.
    }
    if (!lives) run.reset();
    const Clock::duration rest = std::max<Clock::duration>(kLeastRest, kRestFactor * (Clock::now() - start));
    lock.lock();
    wake.wait_for(lock, token, lives ? rest : kLeastRest, [] { return false; });
  }
}

RunFollower::RunFollower(fs::path run, fs::path model)
    : impl_(std::make_unique<Impl>(std::move(run), std::move(model))) {
  impl_->worker = std::jthread([impl = impl_.get()](const std::stop_token& token) { impl->work(token); });
}

RunFollower::~RunFollower() = default;

RunFollower::View RunFollower::look() {
  const std::lock_guard lock(impl_->mutex);
  impl_->read_status();
  impl_->wanted = true;
  impl_->wake.notify_all();
  View view;
  view.status = impl_->status;
  view.alive = impl_->alive;
  std::error_code ignored;
  view.has_archive = fs::exists(impl_->archive(), ignored);
  view.data_tag = impl_->tag;
  view.problem = impl_->problem;
  return view;
}

std::shared_ptr<const std::string> RunFollower::data(std::string& tag) const {
  const std::lock_guard lock(impl_->mutex);
  tag = impl_->tag;
  return impl_->json;
}

}  // namespace knapsaq
