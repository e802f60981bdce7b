#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "knapsaq/base/partial_output.h"

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

  /// Tells the system that these bytes (a part of bytes()) are no longer needed in memory. They can still be
  /// read, at the cost of reading the disk again. This keeps the resident size small while a large file is
  /// streamed.
  void release(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file that appears under its name complete or not at all: written under a temporary name
/// (partial_output.h), renamed by commit(), removed if commit() is never reached.
class AtomicFile {
 public:
  /// Whether to search for what dead processes left of this file, which reads its folder. Not needed in
  /// folders that are cleared by the code that works in them.
  enum class Leftovers { removed, not_looked_for };
  /// Throws IoError if the file cannot be created.
  explicit AtomicFile(std::filesystem::path path, Leftovers leftovers = Leftovers::removed);

  /// Throws IoError if the disk is full or fails.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Flushes to the disk and gives the file its name.
  void commit();

 private:
  std::filesystem::path path_;
  PartialOutput partial_;
};

/// Throws UsageError if `path` exists and `replace` is not set. Call it before long work.
void refuse_existing(const std::filesystem::path& path, bool replace);

/// Ensures that the names in a folder are on the disk. Throws IoError if the disk fails.
void sync_folder(const std::filesystem::path& folder);

/// The whole content of a small file. Throws IoError, or InputError if it has more than `limit` bytes.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = std::uint64_t{1} << 30);

/// Writes a small file atomically.
void write_file(const std::filesystem::path& path, std::string_view content);

}  // namespace knapsaq
