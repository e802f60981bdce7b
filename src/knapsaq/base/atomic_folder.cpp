#include "knapsaq/base/atomic_folder.h"

#include <string>
#include <system_error>

#include <fmt/core.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/folder_record.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// The place itself, whatever links lead to it: found once, before anything is renamed.
fs::path place_of(const fs::path& path) {
  fs::path place = fs::weakly_canonical(path);
  return place.has_filename() ? place : place.parent_path();
}

/// The folder, cleared of what earlier processes left beside it, for a member that is made before the rest.
const fs::path& cleared(const fs::path& path, bool replace) {
  remove_leftovers(path);
  refuse_existing_folder(path, replace);
  return path;
}

}  // namespace

void refuse_existing_folder(const fs::path& path, bool replace) {
  refuse_existing(path, replace);
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw UsageError(
        fmt::format("{}: is not a folder, and a folder is to be written: give another name", path.string()));
  if (const auto foreign = foreign_in(path))
    throw UsageError(fmt::format("{}: {}: give another name, or move it away (--force does not replace it)",
                                 path.string(), *foreign));
}

AtomicFolder::AtomicFolder(const fs::path& path, bool replace)
    : path_(place_of(path)),
      replace_(replace),
      partial_(cleared(path_, replace), PartialOutput::Kind::folder) {}

void AtomicFolder::take_name() {
  std::error_code ignored;
  if (!replace_ || !fs::exists(path_, ignored)) {
    name_folder(staging(), path_);
    partial_.forget();
    return;
  }
  refuse_existing_folder(path_, true);
  exchange_folders(staging(), path_);  // the partial one is what was replaced, and goes as such
}

void AtomicFolder::commit() {
  write_folder_record(staging());
  sync_folder(staging());
  try {
    take_name();
  } catch (const Error& error) {
    // Hours of work are not thrown away for a name.
    fs::path finished = path_;
    finished += fmt::format(".finished-{}", ::getpid());
    std::error_code failure;
    fs::rename(staging(), finished, failure);
    if (failure) throw;
    partial_.forget();
    const std::string line = fmt::format("{}; it is kept as {}", error.what(), finished.string());
    if (dynamic_cast<const UsageError*>(&error) != nullptr) throw UsageError(line);
    throw IoError(line);
  }
  sync_folder(path_.parent_path());
}

}  // namespace knapsaq
