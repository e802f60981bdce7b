#pragma once

#include <cerrno>

namespace knapsaq {

/// Repeats a system call as long as a signal interrupts it.
template <class Call>
auto retried(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace knapsaq
