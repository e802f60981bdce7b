#include "knapsaq/base/exchange.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/partial_output.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Whether the system or the file system does not know a flag of renameat2().
bool is_unsupported(int error) {
  return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == ENOTSUP;
}

int rename_with(const fs::path& from, const fs::path& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
}

IoError refused(const fs::path& path) {
  return IoError(
      fmt::format("{}: the finished folder cannot get this name: {}", path.string(), std::strerror(errno)));
}

}  // namespace

void name_folder(const fs::path& finished, const fs::path& name) {
  if (rename_with(finished, name, RENAME_NOREPLACE) == 0) return;
  if (!is_unsupported(errno)) throw refused(name);
  // Without the flag an empty folder of that name would be replaced.
  std::error_code ignored;
  errno = EEXIST;
  if (fs::exists(fs::symlink_status(name, ignored)) || ::rename(finished.c_str(), name.c_str()) != 0)
    throw refused(name);
}

void exchange_folders(const fs::path& finished, const fs::path& name) {
  if (rename_with(finished, name, RENAME_EXCHANGE) == 0) return;
  if (!is_unsupported(errno)) throw refused(name);
  std::error_code ignored;
  const fs::path old = waiting_name(name);
  const TryLock lock(name);  // whoever looks sees that it waits for a living process
  if (::rename(name.c_str(), old.c_str()) != 0) throw refused(name);
  sync_folder(name.parent_path());
  if (::rename(finished.c_str(), name.c_str()) != 0) {
    const IoError error = refused(name);
    fs::rename(old, name, ignored);
    throw error;
  }
  sync_folder(name.parent_path());
  fs::rename(old, finished, ignored);  // or it is cleared away later
}

}  // namespace knapsaq
