#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "command.h"
#include "knapsaq/watch/point_writer.h"
#include "knapsaq/watch/server_record.h"
#include "knapsaq/watch/watch_server.h"

namespace knapsaq::command {
namespace {

/// A search beside it goes first.
constexpr int kLowestPriority = 19;

struct Options {
  Common common;
  std::string folder;
  std::string model;
  std::int64_t port = 0;
  std::int64_t exit_after = 0;
};

void say(const Options& options, const std::string& address, std::string_view what) {
  if (options.common.json)
    print({{"run", options.folder}, {"address", address}});
  else
    fmt::print("{}\n{}\n", address, what);
  flush_output();
}

void run(const Options& options) {
  static_cast<void>(::setpriority(PRIO_PROCESS, 0, kLowestPriority));
  // The page names it to people who are in other folders.
  const std::filesystem::path folder = std::filesystem::weakly_canonical(options.folder);
  if (const std::optional<std::string> address = served_at(folder); address && options.port == 0) {
    say(options, *address, "another process serves this page already");
    return;
  }
  WatchOptions watch;
  watch.run = folder;
  watch.model = options.model;
  watch.pick = point_writer(folder, options.model);
  WatchServer server(std::move(watch), static_cast<int>(options.port));
  say(options, server.address(), "open it in a browser on this machine; Ctrl-C ends the page, not the run");
  server.serve(options.exit_after > 0 ? std::optional(std::chrono::seconds(options.exit_after))
                                      : std::nullopt);
}

}  // namespace

void add_watch(CommandLine& app) {
  auto options = std::make_shared<Options>();
  const Verb verb = app.add("watch", "Serve a page on this machine that follows a run, running or finished");
  verb.option("run", options->folder, "Folder of the run").required();
  verb.option("--port", options->port, "Port on 127.0.0.1; 0: the one of before, or a free one")
      .range(0, 65535)
      .show_default();
  verb.option("--model", options->model, "Where the model is now, if it was moved");
  verb.option("--exit-after", options->exit_after,
              "End when the run is over and no page has asked for so many seconds; 0: never")
      .range(0, std::int64_t{1} << 30)
      .show_default();
  add_common(verb, options->common);
  verb.example("knapsaq watch RUN");
  verb.runs([options] { run(*options); });
}

}  // namespace knapsaq::command
