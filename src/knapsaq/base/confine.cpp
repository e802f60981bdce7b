#include "knapsaq/base/confine.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <vector>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#    define KNAPSAQ_SANITIZED
#  endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define KNAPSAQ_SANITIZED
#endif

namespace knapsaq {
namespace {

#if defined(KNAPSAQ_SANITIZED)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;  // its calls are not known here
#endif

/// A filter, which the kernel runs on struct seccomp_data before every system call. All tests jump forward
/// over one return.
class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    // Another architecture's calls have other numbers.
    program_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
    give(SECCOMP_RET_KILL_PROCESS);
    load_number();
#if defined(__x86_64__)
    // So have those of x32, which names the same architecture.
    constexpr std::uint32_t kX32 = 0x40000000;
    program_.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 0, 1));
    give(SECCOMP_RET_KILL_PROCESS);
#endif
  }

  void allow(long call) {
    program_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1));
    give(SECCOMP_RET_ALLOW);
  }
  /// Only if the bits `mask` of its argument, counted from 0, are `value`.
  void allow_if(long call, unsigned argument, std::uint32_t mask, std::uint32_t value) {
    // Over what follows, up to the loading of the number, if it is another call.
    program_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 5));
    // The lower half: both architectures are little-endian, and the kernel takes these arguments as ints.
    load(static_cast<std::uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t)));
    program_.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
    program_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    give(SECCOMP_RET_ALLOW);
    load_number();
  }

  bool install() {
    give(SECCOMP_RET_ERRNO | EPERM);
    const sock_fprog program{static_cast<unsigned short>(program_.size()), program_.data()};
    // Without the first one only root may do the second.
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  }

 private:
  void load(std::uint32_t offset) { program_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
  void load_number() { load(offsetof(seccomp_data, nr)); }
  void give(std::uint32_t result) { program_.push_back(BPF_STMT(BPF_RET | BPF_K, result)); }

  std::vector<sock_filter> program_;
};

Filter make_filter() {
  Filter filter;
  // Memory, nothing of which may become code.
  filter.allow(SYS_brk);
  filter.allow(SYS_munmap);
  filter.allow(SYS_mremap);
  filter.allow(SYS_madvise);
  filter.allow_if(SYS_mmap, 2, PROT_EXEC, 0);
  filter.allow_if(SYS_mprotect, 2, PROT_EXEC, 0);
  // What is called without asking: by abort(), by the first use of a local static, by hash tables' seeds.
  filter.allow(SYS_rt_sigprocmask);
  filter.allow(SYS_rt_sigreturn);
  filter.allow_if(SYS_futex, 1, static_cast<std::uint32_t>(FUTEX_CMD_MASK), FUTEX_WAKE);
  filter.allow(SYS_getpid);
  filter.allow(SYS_gettid);
  filter.allow(SYS_getrandom);
  // Where the clock is not read without a call.
  filter.allow(SYS_clock_gettime);
  filter.allow(SYS_gettimeofday);
  filter.allow(SYS_exit);
  filter.allow(SYS_exit_group);
  if (kSanitized) {
    // They look whether memory is there by writing it into a pipe, and report.
    filter.allow(SYS_write);
    filter.allow(SYS_pipe2);
    filter.allow(SYS_close);
    filter.allow(SYS_sched_yield);
    filter.allow(SYS_sigaltstack);
#if defined(SYS_pipe)
    filter.allow(SYS_pipe);
#endif
  } else {
    filter.allow_if(SYS_write, 0, ~std::uint32_t{0}, kAnswerDescriptor);
  }
  return filter;
}

void close_all_but(int answer) {
  if (answer != kAnswerDescriptor) ::dup2(answer, kAnswerDescriptor);
  ::closefrom(kAnswerDescriptor + 1);
  for (int standard = 0; standard < (kSanitized ? 2 : 3); ++standard) ::close(standard);
}

}  // namespace

bool confine(int answer) {
  // libc reads the zone's file at every conversion, unless the name of it is in TZ and has not changed.
  ::setenv("TZ", ":/etc/localtime", 0);
  ::tzset();
  Filter filter = make_filter();
  close_all_but(answer);
  if (kArchitecture == 0) {
    errno = ENOSYS;
    return false;
  }
  return filter.install();
}

}  // namespace knapsaq
