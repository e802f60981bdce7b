#include "terminal_input.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"

namespace knapsaq::command {
namespace {

/// Appends what there is to read; false at the end.
bool read_more(std::string& text) {
  for (;;) {
    check_cancelled();
    // Signal handlers restart read() but never poll(). The time-out is for a signal just before it.
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const int ready = ::poll(&input, 1, 200);
    if (ready < 0 && errno != EINTR)
      throw IoError(fmt::format("cannot read standard input: {}", std::strerror(errno)));
    if (ready <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0) throw IoError(fmt::format("cannot read standard input: {}", std::strerror(errno)));
    text.append(buffer, static_cast<std::size_t>(got));
    return got > 0;
  }
}

}  // namespace

std::string read_standard_input() {
  constexpr std::size_t kLargest = std::size_t{1} << 30;
  std::string text;
  while (read_more(text))
    if (text.size() > kLargest) throw InputError("standard input has more than 1 GiB");
  return text;
}

std::optional<std::string> LineReader::next() {
  constexpr std::size_t kLongest = std::size_t{1} << 20;
  for (std::size_t from = 0;;) {
    const std::size_t end = held_.find('\n', from);
    if (end != std::string::npos) {
      std::string line = held_.substr(0, end);
      held_.erase(0, end + 1);
      return line;
    }
    if (ended_) {
      if (held_.empty()) return std::nullopt;
      return std::exchange(held_, {});
    }
    if (held_.size() > kLongest) throw InputError("a line of standard input has more than 1 MiB");
    from = held_.size();
    ended_ = !read_more(held_);
  }
}

}  // namespace knapsaq::command
