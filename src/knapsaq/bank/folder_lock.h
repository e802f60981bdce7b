#pragma once

#include <filesystem>

namespace knapsaq {

/// Keeps other processes from working in a folder: an advisory lock on the folder itself, so nothing is left
/// behind, however the process ends.
class FolderLock {
 public:
  /// Throws IoError if the folder cannot be opened or another process holds the lock.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace knapsaq
