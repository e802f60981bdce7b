#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "knapsaq/search/space.h"
#include "knapsaq/watch/http_server.h"
#include "knapsaq/watch/run_follower.h"

namespace knapsaq {

/// Writes the model of a point under the name that the page was given, and returns its bytes. What it throws
/// is shown on the page. Called in a thread of its own, once at a time.
using PickPoint = std::function<std::uint64_t(const Point& point, const std::string& output)>;

struct WatchOptions {
  std::filesystem::path run;
  std::filesystem::path model;  ///< where the model is now; empty: where the run says
  PickPoint pick;               ///< null: the page does not write models
};

/// The page of a run and what it asks for, as answers to requests:
///
///     GET  /TOKEN/                page, style and scripts
///     GET  /TOKEN/state           JSON: stage, speed, memory, log, tag of the data, what is being written
///     GET  /TOKEN/data            JSON of the report (ReportData)
///     POST /TOKEN/stop            the search ends after its current batch
///     POST /TOKEN/pick            {"levels": [..], "output": ".."}: writes that point's model
///
/// What does not have the token, or was sent to another host than this machine's own (DNS rebinding), is not
/// found. POST needs the header X-Knapsaq, which no other site's page can send, too. State and data have an
/// ETag.
class WatchSite {
 public:
  WatchSite(WatchOptions options, std::string token);
  ~WatchSite();
  WatchSite(const WatchSite&) = delete;
  WatchSite& operator=(const WatchSite&) = delete;

  HttpAnswer answer(const HttpRequest& request);

  /// Nobody needs the site: the run is over and nothing is being written.
  bool is_idle();
  /// Since the last request that had the token.
  std::chrono::seconds quiet() const;

 private:
  struct Pick {
    std::string output;
    std::string state = "writing";  ///< then "done" or "failed"
    std::string message;            ///< why it failed
    std::uint64_t bytes = 0;
  };

  HttpAnswer page() const;
  HttpAnswer state(const HttpRequest& request);
  HttpAnswer data(const HttpRequest& request) const;
  HttpAnswer stop();
  HttpAnswer pick(const HttpRequest& request);
  void write(const Point& point, std::size_t number);

  const WatchOptions options_;
  const std::string token_;
  RunFollower follower_;
  std::atomic<std::chrono::steady_clock::rep> asked_;  ///< when the last request came
  std::mutex mutex_;                                   ///< of what follows
  std::vector<Pick> picks_;
  bool writing_ = false;
  std::jthread writer_;
};

}  // namespace knapsaq
