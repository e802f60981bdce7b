#pragma once

namespace knapsaq {

/// Takes from this process for good what computing on hostile data does not need. Afterwards
/// - every descriptor is closed but `answer`, which is descriptor kAnswerDescriptor from then on;
/// - the system refuses (EPERM) whatever is not on a short list: memory that cannot be executed, writing to
///   that descriptor, the clock, and the end of the process. There is no way to files, network, other
///   processes, new programs or threads, and none to wait or sleep.
/// The list is a filter of Linux (seccomp); nothing takes it back. Local time still works: the time zone is
/// read before.
///
/// Returns false, with errno, where the kernel or this processor's build has no such filter; then only the
/// descriptors are closed. For a child that has one thread.
///
/// Built with sanitizers, it leaves standard error and what they need to look at memory.
bool confine(int answer);

inline constexpr int kAnswerDescriptor = 3;

}  // namespace knapsaq
