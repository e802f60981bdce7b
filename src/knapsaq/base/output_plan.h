#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/file_identity.h"

namespace knapsaq {

/// Everything that a command reads and writes, under the names that a user gave. It checks before any work
/// that each output can be written and that no data is lost. Outputs are refused (UsageError; IoError if the
/// system would refuse)
/// - whose name is empty, too long, a link to nothing, or ends in a slash where a file is to be written;
/// - that lie in no folder, or in one that cannot be written: parent folders are not created;
/// - that are, contain or lie inside something that is read, or another output of the command, by any path:
///   links, hard links and bind mounts are resolved;
/// - that would replace something that may not be replaced, or that Knapsaq did not write.
///
/// It returns canonical paths, resolved once: a name is not resolved again later.
class OutputPlan {
 public:
  /// Decides by the first bytes of a file (kBeginning at most) whether Knapsaq wrote it.
  using Recogniser = bool (*)(std::string_view beginning);
  static constexpr std::size_t kBeginning = 4096;

  /// A source, also one that is known only after an output: `what` as in messages, "the model". An empty path
  /// is ignored.
  void reads(std::string_view what, const std::filesystem::path& path);
  /// A place inside an output or a source where something may be written or read nevertheless.
  void allows(const std::filesystem::path& place);

  /// A folder that is written whole (AtomicFolder).
  std::filesystem::path folder(const std::filesystem::path& name, bool replace);
  /// A file that is written whole (AtomicFile). `own`: which existing files may be replaced.
  std::filesystem::path file(const std::filesystem::path& name, bool replace, Recogniser own);
  /// A folder that the command creates or continues; the code that works in it decides whether it may.
  std::filesystem::path workspace(const std::filesystem::path& name);
  /// A file that the command creates or continues.
  std::filesystem::path log(const std::filesystem::path& name);

 private:
  struct Place {
    std::string what;
    FileIdentity identity;
  };
  std::filesystem::path place(const std::filesystem::path& name, bool is_file);
  bool is_allowed(const FileIdentity& place) const;
  void refuse_relatives(const std::filesystem::path& name, const FileIdentity& output) const;

  std::vector<Place> sources_;
  std::vector<Place> outputs_;
  std::vector<std::filesystem::path> allowed_;
};

}  // namespace knapsaq
