#pragma once

#include <filesystem>

#include "knapsaq/base/partial_output.h"

namespace knapsaq {

/// Throws UsageError if there is something at `path` and `replace` is not set, or if what is there may not be
/// replaced: a folder that holds anything that Knapsaq did not write (folder_record.h), or no folder at all.
/// For asking before long work instead of after it.
void refuse_existing_folder(const std::filesystem::path& path, bool replace);

/// A folder that appears under its name complete or not at all; see AtomicFile. One that is replaced
/// disappears in the same moment, where the system can exchange two names (Linux: renameat2, on local file
/// systems). Elsewhere it waits under another name for that moment, and who dies then is seen to by the next
/// process that writes there.
class AtomicFolder {
 public:
  /// Clears away what dead processes left of this output, then asks refuse_existing_folder(). Nothing else is
  /// touched before commit().
  AtomicFolder(const std::filesystem::path& path, bool replace);

  /// Where to write until commit().
  const std::filesystem::path& staging() const { return partial_.path(); }
  /// Adds the folder's record and gives it its name. Throws IoError if the system refuses the name, or
  /// UsageError if something is there by now that may not be replaced; what was written is then kept as
  /// `<path>.finished-<process id>`.
  void commit();

 private:
  void take_name();

  std::filesystem::path path_;
  bool replace_;
  PartialOutput partial_;
};

}  // namespace knapsaq
