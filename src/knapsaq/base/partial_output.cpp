#include "knapsaq/base/partial_output.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/folder_record.h"
#include "knapsaq/base/retried.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartial = ".partial-";
constexpr std::string_view kOld = ".old-";

int open_again(const fs::path& path, int flags, mode_t mode = 0) {
  return retried([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); });
}

/// Whether `path` is still the name of what is open.
bool names(const fs::path& path, int descriptor) {
  struct stat held {};
  struct stat named {};
  return ::fstat(descriptor, &held) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

/// The process of "<name><ending><digits>" or "<name><ending><digits>-<digits>"; 0 for other names.
pid_t process_of(std::string_view entry, std::string_view name, std::string_view ending) {
  if (!entry.starts_with(name) || !entry.substr(name.size()).starts_with(ending)) return 0;
  entry.remove_prefix(name.size() + ending.size());
  pid_t process = 0;
  const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), process);
  if (error != std::errc() || process <= 0) return 0;
  entry.remove_prefix(static_cast<std::size_t>(end - entry.data()));
  const bool again = entry.size() > 1 && entry[0] == '-' &&
                     entry.find_first_not_of("0123456789", 1) == std::string_view::npos;
  return entry.empty() || again ? process : 0;
}

bool is_alive(pid_t process) { return process != ::getpid() && (::kill(process, 0) == 0 || errno == EPERM); }

struct Leftover {
  fs::path path;
  pid_t process;
};

/// What lies beside `path` under its name with this ending: files and folders, no links.
std::vector<Leftover> beside(const fs::path& path, std::string_view ending) {
  std::vector<Leftover> found;
  const std::string name = path.filename().string();
  std::error_code status;
  fs::directory_iterator entry(path.has_parent_path() ? path.parent_path() : fs::path("."), status);
  for (; !status && entry != fs::directory_iterator(); entry.increment(status)) {
    const pid_t process = process_of(entry->path().filename().string(), name, ending);
    if (process == 0) continue;
    std::error_code ignored;
    const fs::file_type type = entry->symlink_status(ignored).type();
    if (type == fs::file_type::regular || type == fs::file_type::directory)
      found.push_back({entry->path(), process});
  }
  return found;
}

/// Calls `act` on what no living process has.
template <class Act>
void with_dead(const std::vector<Leftover>& leftovers, const Act& act) {
  for (const Leftover& leftover : leftovers) {
    const TryLock lock(leftover.path);
    if (lock.state() == TryLock::State::of_another) continue;
    if (lock.state() == TryLock::State::unknown && is_alive(leftover.process)) continue;
    act(leftover.path);
  }
}

}  // namespace

PartialOutput::PartialOutput(const fs::path& path, Kind kind) {
  const auto fail = [&] {
    return IoError(fmt::format("{}: cannot {}: {}", path.string(),
                               kind == Kind::file ? "write" : "create the folder", std::strerror(errno)));
  };
  fs::path name = path;
  name += fmt::format("{}{}", kPartial, ::getpid());
  path_ = name;
  // In a container the next process often has the number of the one that was killed.
  constexpr int kMost = 1000;
  for (int again = 1; again <= kMost; ++again) {
    bool made = false;
    if (kind == Kind::file) {
      descriptor_ = open_again(path_, O_WRONLY | O_CREAT | O_EXCL, 0666);
      made = descriptor_ >= 0;
    } else {
      made = ::mkdir(path_.c_str(), 0777) == 0;
    }
    if (!made && errno != EEXIST) throw fail();
    if (made && kind == Kind::folder) descriptor_ = open_again(path_, O_RDONLY | O_DIRECTORY);
    // Whoever clears away what is left may come between making and locking; then the name is free again.
    if (made && (descriptor_ < 0 || ((::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) &&
                                     names(path_, descriptor_))))
      return;
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
    path_ = name;
    path_ += fmt::format("-{}", again);
  }
  errno = EEXIST;
  throw fail();
}

PartialOutput::~PartialOutput() {
  if (owned_) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  if (descriptor_ >= 0) ::close(descriptor_);
}

TryLock::TryLock(const fs::path& path) : descriptor_(open_again(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)) {
  if (descriptor_ < 0) return;
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0)
    state_ = names(path, descriptor_) ? State::held : State::of_another;
  else if (errno == EWOULDBLOCK)
    state_ = State::of_another;
}

TryLock::~TryLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

fs::path waiting_name(const fs::path& path) {
  fs::path name = path;
  name += fmt::format("{}{}", kOld, ::getpid());
  const fs::path first = name;
  std::error_code ignored;
  for (int again = 1; fs::exists(fs::symlink_status(name, ignored)); ++again) {
    name = first;
    name += fmt::format("-{}", again);
  }
  return name;
}

void restore_waiting(const fs::path& path) {
  std::error_code status;
  if (fs::exists(fs::symlink_status(path, status))) return;
  with_dead(beside(path, kOld), [&](const fs::path& old) {
    if (!fs::exists(fs::symlink_status(path, status))) fs::rename(old, path, status);
  });
}

void remove_finished(const fs::path& path) {
  fs::path partial = path;
  partial += fmt::format("{}{}", kPartial, ::getpid());
  std::error_code failure;
  fs::rename(path, partial, failure);
  if (!failure) fs::remove_all(partial, failure);
}

void remove_waited(const fs::path& path, const std::function<bool(const fs::path&)>& is_ours) {
  std::error_code ignored;
  with_dead(beside(path, kOld), [&](const fs::path& old) {
    if (!fs::is_directory(old, ignored) || !is_ours(old)) return;
    // Half-removed it would no longer be known for ours, but a partial one always is.
    fs::path partial = path;
    partial += fmt::format("{}{}", kPartial, old.native().substr(path.native().size() + kOld.size()));
    fs::rename(old, partial, ignored);
  });
  with_dead(beside(path, kPartial), [&](const fs::path& partial) { fs::remove_all(partial, ignored); });
}

void remove_leftovers(const fs::path& path) {
  restore_waiting(path);
  remove_waited(path, [](const fs::path& old) { return !foreign_in(old); });
}

}  // namespace knapsaq
