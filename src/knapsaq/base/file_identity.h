#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

namespace knapsaq {

/// The file that a path leads to, and the folders that contain it. Equal files are recognised whatever path,
/// link or mount leads to them. A path may lead to nothing yet.
class FileIdentity {
 public:
  /// Throws IoError if the system cannot follow the path.
  explicit FileIdentity(const std::filesystem::path& path);

  /// Canonical, without a trailing slash.
  const std::filesystem::path& path() const { return path_; }
  /// The same file or folder, under any name.
  bool is(const FileIdentity& other) const;
  /// Whether this lies somewhere below `folder`.
  bool lies_in(const FileIdentity& folder) const;
  /// Whether an entry of this folder is a link to `place` or to something in it, or another name of that
  /// file.
  bool leads_to(const FileIdentity& place) const;

 private:
  using Id = std::pair<std::uint64_t, std::uint64_t>;  ///< device, inode
  static std::vector<Id> ids_of(const std::filesystem::path& path);

  std::filesystem::path path_;
  std::vector<Id> chain_;  ///< itself if it exists, then the folders that contain it
  bool exists_ = false;
  std::vector<std::vector<Id>> also_;  ///< chains of what its entries lead to outside of it
};

}  // namespace knapsaq
