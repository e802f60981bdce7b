#include "knapsaq/watch/watch_server.h"

#include <system_error>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/watch/server_record.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLook{200};

}  // namespace

WatchServer::WatchServer(WatchOptions options, int port) : run_(options.run) {
  std::error_code ignored;
  if (!fs::is_directory(run_, ignored))
    throw UsageError(fmt::format("{}: is no folder: give the folder of a run", run_.string()));
  const std::optional<ServerRecord> before = read_server_record(run_);
  ServerRecord record;
  record.process = this_process();
  record.token = before ? before->token : random_token();
  site_ = std::make_unique<WatchSite>(std::move(options), record.token);
  const auto handler = [site = site_.get()](const HttpRequest& request) { return site->answer(request); };
  if (port == 0 && before) {
    try {
      server_ = std::make_unique<HttpServer>(before->port, handler);
    } catch (const IoError&) {  // NOLINT(bugprone-empty-catch)
      // Somebody else has the port now.
    }
  }
  if (!server_) server_ = std::make_unique<HttpServer>(port, handler);
  record.port = server_->port();
  write_server_record(run_, record);
  address_ = record.address();
}

WatchServer::~WatchServer() { close_server_record(run_); }

void WatchServer::serve(std::optional<std::chrono::seconds> patience) {
  std::error_code ignored;
  while (!cancel_requested() && fs::is_directory(run_, ignored)) {
    std::this_thread::sleep_for(kLook);
    if (patience && site_->quiet() > *patience && site_->is_idle()) return;
  }
}

}  // namespace knapsaq
