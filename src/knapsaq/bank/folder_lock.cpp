#include "knapsaq/bank/folder_lock.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/retried.h"

namespace knapsaq {

FolderLock::FolderLock(const std::filesystem::path& folder)
    : descriptor_(retried([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); })) {
  if (descriptor_ < 0)
    throw IoError(fmt::format("{}: cannot open the folder: {}", folder.string(), std::strerror(errno)));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(descriptor_);
  if (reason == EWOULDBLOCK)
    throw IoError(fmt::format("{}: another process is building here: wait for its end", folder.string()));
  throw IoError(fmt::format("{}: cannot lock the folder: {}", folder.string(), std::strerror(reason)));
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace knapsaq
