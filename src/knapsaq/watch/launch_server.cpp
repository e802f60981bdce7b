#include "knapsaq/watch/launch_server.h"

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/retried.h"
#include "knapsaq/watch/server_record.h"

extern "C" char** environ;

namespace knapsaq {
namespace {

constexpr const char* kPatience = "300";  // seconds
constexpr std::string_view kHttp = "http://";

IoError no_server(std::string_view reason) {
  return IoError(fmt::format("the page cannot be served: {}", reason));
}

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_, O_CLOEXEC) != 0) throw no_server(std::strerror(errno));
  }
  ~Pipe() {
    ::close(ends_[0]);
    close_input();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int input() const { return ends_[1]; }
  void close_input() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }
  /// The first line that comes, without its end.
  std::string read_line() const {
    std::string text;
    char c = 0;
    while (retried([&] { return ::read(ends_[0], &c, 1); }) == 1 && c != '\n') text += c;
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace

std::string launch_server(const std::filesystem::path& program, const std::filesystem::path& run) {
  if (const std::optional<std::string> address = served_at(run)) return *address;
  Pipe pipe;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, pipe.input(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, pipe.input(), STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // Ctrl-C in our terminal is not meant for it.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  const std::string name = program.string();
  const std::string folder = run.string();
  std::vector<char*> arguments;
  for (const char* argument : {name.c_str(), "watch", folder.c_str(), "--exit-after", kPatience})
    arguments.push_back(const_cast<char*>(argument));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, name.c_str(), &files, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw no_server(fmt::format("{}: {}", name, std::strerror(error)));
  pipe.close_input();
  std::string answer = pipe.read_line();
  if (answer.starts_with(kHttp)) return answer;
  // It has ended, or is about to.
  retried([&] { return ::waitpid(child, nullptr, 0); });
  throw no_server(answer.empty() ? "its process ended without a word" : answer);
}

}  // namespace knapsaq
