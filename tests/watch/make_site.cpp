// A page of a made run for the test in a browser: serves it until standard input ends.
//   make_watch_site FOLDER SCRIPT
// Prints the address. SCRIPT is added to the page's own script; it may ask for /TOKEN/test/NAME, which makes
// the run do something, and answers when it is done:
//   grow  measures more      search  a search begins     finish  the run ends      kill  as if its process
//   was killed wait  waits for 3 s by the clock, which the server takes for new data deaf  the next requests
//   are refused, until 5 were

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/report/status_file.h"
#include "knapsaq/search/run_files.h"
#include "knapsaq/search/stop_file.h"
#include "knapsaq/watch/server_record.h"
#include "knapsaq/watch/watch_site.h"
#include "watch/made_run.h"

namespace {

using namespace knapsaq;
namespace fs = std::filesystem;

class Scene {
 public:
  explicit Scene(fs::path scratch) : scratch_(std::move(scratch)) { fs::create_directory(folder()); }

  fs::path folder() const { return scratch_ / "run"; }

  void act(std::string_view name) {
    if (name == "stage") {
      status_ = std::make_unique<StatusFile>(folder());
      status_->begin("calibrating", 200, "windows");
      status_->advance(50);
    } else if (name == "search") {
      status_->end();
      run_ = std::make_unique<MadeRun>(scratch_);
      run_->grow(30);
      status_->budget({run_->run().space().bytes(run_->run().space().largest()) * 3 / 4, Budget::Of::files});
      status_->search_begins(run_->run().space(), Divergence::kl, "front", true);
      tell();
    } else if (name == "grow") {
      run_->grow(40);
      tell();
    } else if (name == "finish") {
      run_->finish();
      status_->finished("wrote OUT");
      status_.reset();
    } else if (name == "kill") {
      status_.reset();
      nlohmann::json left = nlohmann::json::parse(read_file(folder() / kStatusName));
      left["state"] = "running";
      left["process"]["start"] = "another";
      left["updated"] = 1;
      write_file(folder() / kStatusName, left.dump());
    } else if (name == "wait") {
      std::this_thread::sleep_for(std::chrono::seconds(3));
    } else if (name == "deaf") {
      deaf_ = 5;
    } else {
      throw UsageError("there is no such thing to do");
    }
  }

  /// Whether a request is refused.
  bool is_deaf() {
    int left = deaf_;
    return left > 0 && deaf_.compare_exchange_strong(left, left - 1);
  }

 private:
  void tell() {
    SearchStatus status;
    status.phase = "round 2";
    status.evaluations = status.measured = static_cast<std::int64_t>(run_->size());
    status.expected = 200;
    status_->searching(status);
  }

  fs::path scratch_;
  std::unique_ptr<MadeRun> run_;
  std::unique_ptr<StatusFile> status_;
  std::atomic<int> deaf_ = 0;
};

}  // namespace

int main(int, char** argv) {
  const fs::path scratch = argv[1];
  const std::string script = read_file(argv[2]);
  Scene scene(scratch);
  const auto pick = [](const Point&, const std::string& output) -> std::uint64_t {
    if (output == "<b>full</b>") throw IoError("<b>full</b>: cannot write: the disk is full");
    return 4711;
  };
  const std::string token = random_token();
  WatchSite site({scene.folder(), {}, pick}, token);
  const HttpServer server(0, [&](const HttpRequest& request) {
    const std::string act = "/" + token + "/test/";
    if (request.path.starts_with(act)) {
      scene.act(std::string_view(request.path).substr(act.size()));
      return HttpAnswer{};
    }
    if (scene.is_deaf()) {
      HttpAnswer refused;
      refused.status = 503;
      return refused;
    }
    HttpAnswer answer = site.answer(request);
    if (request.path.ends_with("/page.js")) {
      answer.headers.erase("ETag");
      answer.body = std::make_shared<const std::string>(*answer.body + script);
    }
    return answer;
  });
  fmt::print("http://127.0.0.1:{}/{}/\n", server.port(), token);
  std::fflush(stdout);
  while (std::getchar() != EOF) continue;
}
