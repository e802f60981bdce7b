#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "knapsaq/watch/watch_site.h"

namespace knapsaq {

/// A run's page on 127.0.0.1, from now until the object dies. The address holds a random token and is written
/// down in the run's folder (ServerRecord).
class WatchServer {
 public:
  /// `port` 0: the one of the run's server before, if it is free, else any. Throws IoError if the port is
  /// taken, or if the record cannot be written; UsageError if the run's folder is not there.
  explicit WatchServer(WatchOptions options, int port = 0);
  ~WatchServer();
  WatchServer(const WatchServer&) = delete;
  WatchServer& operator=(const WatchServer&) = delete;

  /// "http://127.0.0.1:PORT/TOKEN/"
  const std::string& address() const { return address_; }

  /// Returns when the process shall end (cancel_requested()), when the run's folder has gone, and, with
  /// `patience`, when the run is over and nobody has asked for so long.
  void serve(std::optional<std::chrono::seconds> patience = std::nullopt);

 private:
  std::filesystem::path run_;
  std::unique_ptr<WatchSite> site_;
  std::unique_ptr<HttpServer> server_;  ///< after the site that it asks
  std::string address_;
};

}  // namespace knapsaq
