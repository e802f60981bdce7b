#pragma once

#include <filesystem>

namespace knapsaq {

/// A folder that is created if it does not exist. The destructor removes it if it was created here and is
/// still empty, so refused work leaves nothing behind.
class MadeFolder {
 public:
  /// Throws IoError if it cannot be created or is not a folder.
  explicit MadeFolder(std::filesystem::path path);
  ~MadeFolder();
  MadeFolder(const MadeFolder&) = delete;
  MadeFolder& operator=(const MadeFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  bool made_ = false;
};

}  // namespace knapsaq
