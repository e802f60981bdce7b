#include "knapsaq/search/writer_lock.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/retried.h"

namespace knapsaq {

WriterLock::WriterLock(const std::filesystem::path& path) : file_(path) {
  file_ += ".lock";
  while (true) {
    descriptor_ = retried([&] { return ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); });
    if (descriptor_ < 0)
      throw IoError(fmt::format("{}: cannot be written: {}", path.string(), std::strerror(errno)));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      ::close(descriptor_);
      if (reason == EWOULDBLOCK)
        throw IoError(fmt::format(
            "{}: another search writes into it: wait for its end, or give another folder", path.string()));
      throw IoError(fmt::format("{}: cannot be locked: {}", path.string(), std::strerror(reason)));
    }
    // The previous holder may have removed the file between opening and locking it here; then a third process
    // can take the name, and this lock is worthless.
    struct stat held {};
    struct stat named {};
    if (::fstat(descriptor_, &held) == 0 && ::stat(file_.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
      return;
    ::close(descriptor_);
  }
}

WriterLock::~WriterLock() {
  // In this order: as long as the file is locked, nobody else can take the name.
  ::unlink(file_.c_str());
  ::close(descriptor_);
}

}  // namespace knapsaq
