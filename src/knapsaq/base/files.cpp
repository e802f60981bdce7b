#include "knapsaq/base/files.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/retried.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

IoError system_error(const fs::path& path, std::string_view action) {
  return IoError(fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(errno)));
}

/// Closes on every way out of a scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

/// The file, cleared of what earlier processes left beside it, for a member that is made before the rest.
const fs::path& cleared(const fs::path& path, AtomicFile::Leftovers leftovers) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    throw IoError(fmt::format("{}: is not a regular file and cannot be replaced by one", path.string()));
  if (leftovers == AtomicFile::Leftovers::removed) remove_leftovers(path);
  return path;
}

/// fsync() that goes on when a signal came; whether the disk has everything.
bool sync(int descriptor) {
  // The other errors are of what cannot be synced.
  return retried([&] { return ::fsync(descriptor); }) == 0 || errno == EINVAL || errno == EROFS ||
         errno == ENOTSUP;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor descriptor(retried([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (descriptor.get() < 0) throw system_error(path, "open");
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) throw system_error(path, "read");
  if (!S_ISREG(status.st_mode)) throw IoError(fmt::format("{}: is not a regular file", path.string()));
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (mapping == MAP_FAILED) throw system_error(path, "map");
  data_ = static_cast<const std::byte*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  // Only whole pages inside the part: the pages at its edges may hold a neighbour that is in use.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

AtomicFile::AtomicFile(fs::path path, Leftovers leftovers)
    : path_(std::move(path)), partial_(cleared(path_, leftovers), PartialOutput::Kind::file) {}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        retried([&] { return ::write(partial_.descriptor(), bytes.data(), bytes.size()); });
    if (written <= 0) throw system_error(path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (!sync(partial_.descriptor()) || ::rename(partial_.path().c_str(), path_.c_str()) != 0)
    throw system_error(path_, "write");
  partial_.forget();
  sync_folder(path_.parent_path());
}

void refuse_existing(const fs::path& path, bool replace) {
  std::error_code ignored;
  const bool is_link = fs::is_symlink(fs::symlink_status(path, ignored));
  if (is_link && !fs::exists(path, ignored))
    throw UsageError(fmt::format("{}: is a link to nothing: give another name", path.string()));
  if (!replace && fs::exists(path, ignored))
    throw UsageError(
        fmt::format("{}: exists already: give another name, or --force to replace it", path.string()));
}

void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(retried(
      [&] { return ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  // A folder that may be written but not read cannot be synced.
  if (descriptor.get() >= 0 && !sync(descriptor.get())) throw system_error(folder, "write");
}

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const MappedFile file(path);
  if (file.bytes().size() > limit)
    throw InputError(fmt::format("{}: has {} bytes, more than the {} that such a file may have",
                                 path.string(), file.bytes().size(), limit));
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace knapsaq
