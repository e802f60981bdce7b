#include "knapsaq/base/helper.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

// The first byte of an answer.
constexpr char kAnswer = 'a';
constexpr char kInputError = 'i';
constexpr char kOtherError = 'o';

std::filesystem::path& program() {
  static std::filesystem::path path;
  return path;
}

IoError failure(int error) {
  return IoError(
      fmt::format("cannot start {}: {}; reinstall Knapsaq", program().string(), std::strerror(error)));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  void close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

void write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw failure(errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string read_all(int descriptor) {
  std::string bytes;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

/// Starts the helper with these as standard input and output.
pid_t spawn(std::string_view task, int input, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  // Ctrl-C is for this process, which decides what becomes of the work.
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  const std::string name = program().string();
  std::string arguments[] = {name, std::string(kHelperOption), std::string(task)};
  char* pointers[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  pid_t child = -1;
  const int error = ::posix_spawn(&child, name.c_str(), &actions, &attributes, pointers, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) throw failure(error);
  return child;
}

}  // namespace

void set_helper(const std::filesystem::path& path) { program() = path; }
bool has_helper() { return !program().empty(); }
const std::filesystem::path& helper_program() { return program(); }

std::string ask_helper(std::string_view task, std::string_view request) {
  // A file in memory and not a pipe: nobody has to read while it is written.
  const Descriptor input(::memfd_create("request", MFD_CLOEXEC));
  if (input.number() < 0) throw failure(errno);
  write_all(input.number(), request);
  ::lseek(input.number(), 0, SEEK_SET);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw failure(errno);
  const Descriptor from_helper(ends[0]);
  Descriptor to_us(ends[1]);
  const pid_t child = spawn(task, input.number(), to_us.number());
  to_us.close();
  std::string answer = read_all(from_helper.number());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const char kind = answer.empty() ? '\0' : answer[0];
  if (kind != '\0') answer.erase(0, 1);
  if (kind == kAnswer) return answer;
  if (kind == kInputError) throw InputError(answer);
  if (kind == kOtherError) throw IoError(answer);
  throw IoError(fmt::format("{} ended without an answer; reinstall Knapsaq", program().string()));
}

int serve_helper(const std::function<std::string(std::string_view request)>& work) {
  std::string answer;
  try {
    answer = kAnswer + work(read_all(STDIN_FILENO));
  } catch (const InputError& error) {
    answer = kInputError + std::string(error.what());
  } catch (const std::exception& error) {
    answer = kOtherError + std::string(error.what());
  }
  return std::fwrite(answer.data(), 1, answer.size(), stdout) == answer.size() && std::fflush(stdout) == 0
             ? 0
             : 1;
}

}  // namespace knapsaq
