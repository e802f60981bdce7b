#pragma once

#include <filesystem>

namespace knapsaq {

/// A folder that is made if it is not there, and removed again by the destructor if it was made here and
/// nothing came into it: work that is refused leaves nothing.
class MadeFolder {
 public:
  /// Throws IoError if it cannot be made or is no folder.
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
