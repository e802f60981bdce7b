#pragma once

#include <optional>
#include <string>

namespace knapsaq::command {

/// All of standard input. Throws InputError for more than 1 GiB, Cancelled after Ctrl-C.
std::string read_standard_input();

/// Lines of standard input, from a terminal or a pipe. Unlike std::getline() it hears Ctrl-C while it waits.
class LineReader {
 public:
  /// The next line without its end; nothing at the end of the input. Throws Cancelled, or InputError for a
  /// line of more than 1 MiB.
  std::optional<std::string> next();

 private:
  std::string held_;
  bool ended_ = false;
};

}  // namespace knapsaq::command
