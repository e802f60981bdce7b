#include "knapsaq/base/file_identity.h"

#include <algorithm>
#include <system_error>

#include <fmt/core.h>
#include <sys/stat.h>

#include "knapsaq/base/error.h"

namespace knapsaq {

namespace fs = std::filesystem;

FileIdentity::FileIdentity(const fs::path& path) {
  std::error_code status;
  path_ = fs::weakly_canonical(fs::absolute(path, status), status);
  if (status) throw IoError(fmt::format("{}: cannot be found: {}", path.string(), status.message()));
  if (!path_.has_filename() && path_.has_relative_path()) path_ = path_.parent_path();
  exists_ = fs::exists(path_, status);
  chain_ = ids_of(path_);
  if (!fs::is_directory(path_, status)) return;
  // Checkpoints in a cache of Hugging Face are folders of links; and names cost nothing.
  fs::directory_iterator entry(path_, status);
  for (; !status && entry != fs::directory_iterator(); entry.increment(status)) {
    std::error_code ignored;
    if (entry->is_symlink(ignored)) {
      const fs::path target = fs::canonical(entry->path(), ignored);
      if (!ignored) also_.push_back(ids_of(target));
    } else if (entry->is_regular_file(ignored) && entry->hard_link_count(ignored) > 1) {
      also_.push_back({ids_of(entry->path()).front()});
    }
  }
}

std::vector<FileIdentity::Id> FileIdentity::ids_of(const fs::path& path) {
  std::vector<Id> ids;
  for (fs::path at = path;; at = at.parent_path()) {
    struct stat found {};
    if (::stat(at.c_str(), &found) == 0) ids.emplace_back(found.st_dev, found.st_ino);
    if (at == at.parent_path()) return ids;
  }
}

bool FileIdentity::is(const FileIdentity& other) const {
  return path_ == other.path_ || (exists_ && other.exists_ && chain_.front() == other.chain_.front());
}

bool FileIdentity::lies_in(const FileIdentity& folder) const {
  // What does not exist holds nothing, and yet a name below its name would lie in it.
  const fs::path inside = path_.lexically_relative(folder.path_);
  if (!inside.empty() && inside != "." && *inside.begin() != "..") return true;
  if (!folder.exists_) return false;
  return std::find(chain_.begin() + (exists_ ? 1 : 0), chain_.end(), folder.chain_.front()) != chain_.end();
}

bool FileIdentity::leads_to(const FileIdentity& place) const {
  return place.exists_ && std::ranges::any_of(also_, [&](const std::vector<Id>& chain) {
           return std::ranges::find(chain, place.chain_.front()) != chain.end();
         });
}

}  // namespace knapsaq
