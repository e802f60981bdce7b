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

/// A rename is only durable once the folder that holds the name is on the disk.
void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) ::fsync(descriptor.get());
}

fs::path partial_name(const fs::path& path) {
  fs::path named = path.has_filename() ? path : path.parent_path();
  named += fmt::format(".partial-{}", ::getpid());
  return named;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
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

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), partial_(partial_name(path_)) {
  std::error_code ignored;
  if (fs::exists(path_, ignored) && !fs::is_regular_file(path_, ignored))
    throw IoError(fmt::format("{}: is not a regular file and cannot be replaced by one", path_.string()));
  descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw system_error(path_, "write");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(partial_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw system_error(path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw system_error(path_, "write");
  if (::close(std::exchange(descriptor_, -1)) != 0 || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    const IoError error = system_error(path_, "write");
    ::unlink(partial_.c_str());
    throw error;
  }
  sync_folder(path_.parent_path());
}

void refuse_existing(const fs::path& path, bool replace) {
  std::error_code ignored;
  if (!replace && fs::exists(path, ignored))
    throw UsageError(
        fmt::format("{}: exists already: give another name, or --force to replace it", path.string()));
}

AtomicFolder::AtomicFolder(fs::path path, bool replace)
    : path_(path.has_filename() ? std::move(path) : path.parent_path()),
      staging_(partial_name(path_)),
      replace_(replace) {
  refuse_existing(path_, replace_);
  const fs::path name = staging_;
  std::error_code status;
  // A run that was killed may have left its folder, and in a container the next one often has its number.
  for (int again = 1; !fs::create_directory(staging_, status); ++again) {
    constexpr int kMost = 1000;
    if (!status && again == kMost) status = std::make_error_code(std::errc::file_exists);
    if (status)
      throw IoError(fmt::format("{}: cannot create the folder: {}", path_.string(), status.message()));
    staging_ = name;
    staging_ += fmt::format("-{}", again);
  }
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

void AtomicFolder::commit() {
  sync_folder(staging_);
  std::error_code status;
  fs::path old;
  if (replace_ && fs::exists(path_, status)) {
    old = path_;
    old += fmt::format(".old-{}", ::getpid());
    fs::rename(path_, old, status);
    if (status)
      throw IoError(fmt::format("{}: cannot replace the folder: {}", path_.string(), status.message()));
  }
  fs::rename(staging_, path_, status);
  if (status) {
    const std::string reason = status.message();
    if (!old.empty()) fs::rename(old, path_, status);
    throw IoError(fmt::format("{}: cannot name the finished folder: {}", path_.string(), reason));
  }
  committed_ = true;
  sync_folder(path_.parent_path());
  if (!old.empty()) fs::remove_all(old, status);
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
