#pragma once

namespace knapsaq {

/// Permanently removes from this process everything that computing on hostile data does not need. Afterwards
/// - every descriptor is closed except `answer`, which becomes descriptor kAnswerDescriptor;
/// - the system refuses (EPERM) everything that is not on a short list: memory that cannot be executed,
///   writing to that descriptor, the clock, and the end of the process. There is no access to files, network,
///   other processes, new programs or threads, and no waiting or sleeping. The list is a filter of Linux
///   (seccomp) and cannot be undone. Local time still works: the time zone is read before.
///
/// Returns false, with errno, if the kernel or this processor's build has no such filter; then only the
/// descriptors are closed. For a child with one thread.
///
/// Built with sanitizers, it leaves standard error open and what they need to inspect memory.
bool confine(int answer);

inline constexpr int kAnswerDescriptor = 3;

}  // namespace knapsaq
