#pragma once

#include <filesystem>

#include "knapsaq/base/partial_output.h"

namespace knapsaq {

/// Throws UsageError if `path` exists and `replace` is not set, or if it may not be replaced: a folder with
/// anything that Knapsaq did not write (folder_record.h), or not a folder. Call it before long work.
void refuse_existing_folder(const std::filesystem::path& path, bool replace);

/// A folder that appears under its name complete or not at all; see AtomicFile. A replaced folder disappears
/// at the same moment, if the system can exchange two names (Linux: renameat2, on local file systems).
/// Elsewhere it waits under another name for that moment. If the process dies then, the next process that
/// writes there restores it.
class AtomicFolder {
 public:
  /// Removes what dead processes left of this output, then calls refuse_existing_folder(). Nothing else is
  /// changed before commit().
  AtomicFolder(const std::filesystem::path& path, bool replace);

  /// The folder to write to until commit().
  const std::filesystem::path& staging() const { return partial_.path(); }
  /// Adds the folder's record and gives the folder its name. Throws IoError if the system refuses the name,
  /// or UsageError if something that may not be replaced has appeared there; the result is then kept as
  /// `<path>.finished-<process id>`.
  void commit();

 private:
  void take_name();

  std::filesystem::path path_;
  bool replace_;
  PartialOutput partial_;
};

}  // namespace knapsaq
