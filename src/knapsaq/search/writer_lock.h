#pragma once

#include <filesystem>

namespace knapsaq {

/// Keeps a second search from writing to a file: an advisory lock on an empty file `<path>.lock` beside it,
/// which is removed with the lock. One that a killed process left blocks nobody. The lock is not on the file
/// itself, because closing it a second time would drop SQLite's own locks.
class WriterLock {
 public:
  /// Throws IoError if the lock's file cannot be created or another search holds it.
  explicit WriterLock(const std::filesystem::path& path);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
};

}  // namespace knapsaq
