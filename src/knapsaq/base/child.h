#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace knapsaq {

/// What work in a child process may take.
struct ChildLimits {
  unsigned seconds = 3;                         ///< of processor time
  std::size_t memory = std::size_t{512} << 20;  ///< bytes beside what this process has
  std::size_t answer = std::size_t{16} << 20;   ///< bytes
};

/// The answer of `work`, which runs in a child process: for code that is given programs to run (templates)
/// and could be made to loop, to recurse without end or to take all memory. `work` has a copy of this
/// process's memory, no other threads, and must touch nothing outside; it must not use default_pool().
///
/// An exception of `work` is an InputError here, its what() unchanged. Running into a limit and crashing are
/// InputErrors of one line that begins with `what`. Throws IoError if there can be no child.
std::string run_in_child(const std::string& what, const std::function<std::string()>& work,
                         const ChildLimits& limits = {});

}  // namespace knapsaq
