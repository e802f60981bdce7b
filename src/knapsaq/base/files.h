#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace knapsaq {

/// A whole file, mapped read-only.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws IoError if the file cannot be opened or is not a regular file. An empty file maps to no bytes.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Tells the system that these bytes (a part of bytes()) are no longer needed in memory; they can still be
  /// read, at the price of reading the disk again. Keeps the resident size small while a large file streams
  /// by.
  void release(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file that appears under its name complete or not at all: written as `<path>.partial-<pid>`, renamed by
/// commit(), removed if commit() is never reached.
class AtomicFile {
 public:
  /// Throws IoError if the file cannot be created.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Throws IoError when the disk is full or failing.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Flushes to the disk and gives the file its name.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path partial_;
  int descriptor_ = -1;
};

/// Throws UsageError if `path` exists and `replace` is not set: for asking before long work instead of after
/// it.
void refuse_existing(const std::filesystem::path& path, bool replace);

/// A folder that appears under its name complete or not at all; see AtomicFile.
class AtomicFolder {
 public:
  /// Starts with refuse_existing(). Nothing is touched before commit().
  AtomicFolder(std::filesystem::path path, bool replace);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Where to write until commit().
  const std::filesystem::path& staging() const { return staging_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path staging_;
  bool replace_;
  bool committed_ = false;
};

/// The whole content of a small file. Throws IoError, or InputError if it has more than `limit` bytes.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = std::uint64_t{1} << 30);

/// Writes a small file atomically.
void write_file(const std::filesystem::path& path, std::string_view content);

}  // namespace knapsaq
