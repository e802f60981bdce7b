#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace knapsaq {

/// Limits of work in a child process.
struct ChildLimits {
  unsigned seconds = 3;                         ///< of processor time
  std::size_t memory = std::size_t{512} << 20;  ///< bytes in addition to what this process has
  std::size_t answer = std::size_t{16} << 20;   ///< bytes
};

/// The result of the work. It may come from a child that hostile data have taken over: any bytes are
/// possible.
struct ChildAnswer {
  bool threw = false;  ///< the bytes are the what() of an exception
  std::string bytes;
};

/// The answer of `work`, which runs in a child process: for code that runs untrusted programs (templates) and
/// could be made to loop, to recurse without end, to take all memory, or worse. `work` has a copy of this
/// process's memory and no other threads; it must not use current_pool(). It can only compute
/// (base/confine.h): no files, no network, no processes.
///
/// Reaching a limit and crashing are InputErrors of one line that begins with `what`. Throws IoError if no
/// child can be created or confined: then nothing was run.
ChildAnswer run_in_child(const std::string& what, const std::function<std::string()>& work,
                         const ChildLimits& limits = {});

}  // namespace knapsaq
