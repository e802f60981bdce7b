// Preloaded into the command by tests (intervention.h): counts the calls that it makes of the system, and
// lets one of them fail, or ends the process there. What it does, the environment says:
//   CRASH_KINDS   the kinds of calls that count, letters of Kind below; default: all
//   CRASH_AT      the number of the call, from 1, before which something happens
//   CRASH_DO      what: kill, term, hup, int (a signal), tear (half a write, then kill), or how the call
//   fails:
//                 enospc, eio, eintr, short (half a write), xfsz (a write beyond the limit on a file's size)
//   CRASH_TRACE   file that gets the letters of all calls at the end
//   CRASH_NO_EXCHANGE   renameat2() knows no flags, as on many network file systems

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

enum Kind : char {
  kCreate = 'c',  // open for writing
  kOpen = 'o',    // open for reading
  kRead = 'r',
  kWrite = 'w',
  kSync = 'f',
  kRename = 'n',
  kUnlink = 'u',
  kMakeFolder = 'd',
  kTruncate = 't',
  kMap = 'm',
  kLock = 'l',
};

constexpr std::size_t kLongestTrace = 1 << 20;
char trace[kLongestTrace];
std::atomic<std::size_t> calls{0};
std::atomic<long> counted{0};
pid_t process = 0;
const char* kinds = nullptr;
const char* trace_file = nullptr;
long at = 0;
std::string_view what;
bool no_exchange = false;

__attribute__((constructor)) void begin() {
  kinds = std::getenv("CRASH_KINDS");
  trace_file = std::getenv("CRASH_TRACE");
  no_exchange = std::getenv("CRASH_NO_EXCHANGE") != nullptr;
  if (const char* number = std::getenv("CRASH_AT")) at = std::atol(number);
  if (const char* name = std::getenv("CRASH_DO")) what = name;
  process = ::getpid();  // last: until then nothing counts
}

__attribute__((destructor)) void end() {
  if (trace_file == nullptr || ::getpid() != process) return;
  process = 0;
  const long file = ::syscall(SYS_openat, AT_FDCWD, trace_file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  const std::size_t count = calls < kLongestTrace ? calls.load() : kLongestTrace;
  static_cast<void>(::syscall(SYS_write, file, trace, count));
}

/// Whether the call is of the thread that writes a run's status (StatusFile): when it does is a matter of
/// time.
bool is_of_status() {
  char name[16] = {};
  return ::prctl(PR_GET_NAME, name) == 0 && std::string_view(name) == "run status";
}

/// Counts a call. Whether it is the one; a signal that shall end the process has been sent then.
bool is_it(Kind kind) {
  if (process == 0 || ::getpid() != process || is_of_status()) return false;
  const std::size_t place = calls++;
  if (place < kLongestTrace) trace[place] = kind;
  if (at == 0 || (kinds != nullptr && std::strchr(kinds, kind) == nullptr) || ++counted != at) return false;
  if (what == "kill") ::kill(process, SIGKILL);
  if (what == "term") ::kill(process, SIGTERM);
  if (what == "hup") ::kill(process, SIGHUP);
  if (what == "int") ::kill(process, SIGINT);
  return true;
}

/// Whether the call is the one and fails, with errno set.
bool fails(Kind kind, bool can_be_interrupted = false) {
  if (!is_it(kind)) return false;
  if (what == "enospc" && kind != kRead && kind != kOpen && kind != kUnlink) {
    errno = ENOSPC;
    return true;
  }
  if (what == "eio") {
    errno = EIO;
    return true;
  }
  if (what == "eintr" && can_be_interrupted) {
    errno = EINTR;
    return true;
  }
  return false;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}
#define NEXT(name)                                           \
  (*[] {                                                     \
    static const auto found = next<decltype(::name)>(#name); \
    return found;                                            \
  }())

/// What a write does that may be cut short: `write(n)` writes the first n bytes.
template <class Write>
ssize_t write_some(std::size_t bytes, const Write& write) {
  const long before = counted;
  if (fails(kWrite, true)) return -1;
  const bool now = at != 0 && before != counted && counted == at;
  if (!now) return write(bytes);
  if (what == "xfsz") {
    ::kill(process, SIGXFSZ);
    errno = EFBIG;
    return -1;
  }
  if (what == "short" && bytes > 1) return write(bytes / 2);
  if (what == "tear") {
    write(bytes / 2);
    ::kill(process, SIGKILL);
  }
  return write(bytes);
}

template <class Open>
int open_counted(int flags, const Open& open) {
  // No signal interrupts the opening of a folder.
  if ((flags & O_DIRECTORY) != 0) return open();
  const bool writes = (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;
  return fails(writes ? kCreate : kOpen, true) ? -1 : open();
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_counted(flags, [&] { return NEXT(open)(path, flags, mode); });
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_counted(flags, [&] { return NEXT(open64)(path, flags, mode); });
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_counted(flags, [&] { return NEXT(openat)(folder, path, flags, mode); });
}
ssize_t read(int file, void* buffer, size_t bytes) {
  return fails(kRead, true) ? -1 : NEXT(read)(file, buffer, bytes);
}
ssize_t pread(int file, void* buffer, size_t bytes, off_t offset) {
  return fails(kRead, true) ? -1 : NEXT(pread)(file, buffer, bytes, offset);
}
ssize_t pread64(int file, void* buffer, size_t bytes, off64_t offset) {
  return fails(kRead, true) ? -1 : NEXT(pread64)(file, buffer, bytes, offset);
}
ssize_t write(int file, const void* buffer, size_t bytes) {
  return write_some(bytes, [&](std::size_t n) { return NEXT(write)(file, buffer, n); });
}
ssize_t pwrite(int file, const void* buffer, size_t bytes, off_t offset) {
  return write_some(bytes, [&](std::size_t n) { return NEXT(pwrite)(file, buffer, n, offset); });
}
ssize_t pwrite64(int file, const void* buffer, size_t bytes, off64_t offset) {
  return write_some(bytes, [&](std::size_t n) { return NEXT(pwrite64)(file, buffer, n, offset); });
}
int fsync(int file) { return fails(kSync, true) ? -1 : NEXT(fsync)(file); }
// SQLite's, which does not call it again; only file systems over a network interrupt it.
int fdatasync(int file) { return fails(kSync) ? -1 : NEXT(fdatasync)(file); }
int rename(const char* from, const char* to) { return fails(kRename) ? -1 : NEXT(rename)(from, to); }
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return fails(kRename) ? -1 : NEXT(renameat)(from_folder, from, to_folder, to);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  if (no_exchange && flags != 0) {
    errno = EINVAL;
    return -1;
  }
  return fails(kRename) ? -1 : NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}
int unlink(const char* path) { return fails(kUnlink) ? -1 : NEXT(unlink)(path); }
int unlinkat(int folder, const char* path, int flags) {
  return fails(kUnlink) ? -1 : NEXT(unlinkat)(folder, path, flags);
}
int remove(const char* path) { return fails(kUnlink) ? -1 : NEXT(remove)(path); }
int rmdir(const char* path) { return fails(kUnlink) ? -1 : NEXT(rmdir)(path); }
int mkdir(const char* path, mode_t mode) { return fails(kMakeFolder) ? -1 : NEXT(mkdir)(path, mode); }
int ftruncate(int file, off_t length) { return fails(kTruncate, true) ? -1 : NEXT(ftruncate)(file, length); }
int ftruncate64(int file, off64_t length) {
  return fails(kTruncate, true) ? -1 : NEXT(ftruncate64)(file, length);
}
int flock(int file, int operation) { return is_it(kLock), NEXT(flock)(file, operation); }
void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  // Memory that malloc() asks for is no call of the program's.
  if (file >= 0) is_it(kMap);
  return NEXT(mmap)(address, length, protection, flags, file, offset);
}
void* mmap64(void* address, size_t length, int protection, int flags, int file, off64_t offset) {
  if (file >= 0) is_it(kMap);
  return NEXT(mmap64)(address, length, protection, flags, file, offset);
}

}  // extern "C"
