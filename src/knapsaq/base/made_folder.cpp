#include "knapsaq/base/made_folder.h"

#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {

namespace fs = std::filesystem;

MadeFolder::MadeFolder(fs::path path) : path_(path.has_filename() ? std::move(path) : path.parent_path()) {
  std::error_code status;
  made_ = fs::create_directory(path_, status);
  if (status || !fs::is_directory(path_))
    throw IoError(fmt::format("{}: cannot create the folder: {}", path_.string(),
                              status ? status.message() : "there is a file of this name"));
}

MadeFolder::~MadeFolder() {
  if (!made_) return;
  std::error_code not_empty;
  fs::remove(path_, not_empty);
}

}  // namespace knapsaq
