#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/file_identity.h"

namespace knapsaq {

/// Everything that a command reads and writes, by the names that a user gave: checks before any work that
/// each output can be written and costs nobody anything. Outputs are refused (UsageError, IoError where the
/// system would refuse)
///  - whose name is empty, too long, a link to nothing or ends in a slash where a file is to be written;
///  - that lie in no folder, or in one that cannot be written: folders are not made on the way;
///  - that are, hold or lie in something that is read, or another output of the command, by whatever path:
///    links, hard links and bind mounts are seen through;
///  - that would replace something that is not to be replaced, or that Knapsaq did not write.
///
/// What it returns are canonical paths, found once: what a name leads to is not asked again.
class OutputPlan {
 public:
  /// Tells by the first bytes of a file (kBeginning at most) whether Knapsaq wrote it.
  using Recogniser = bool (*)(std::string_view beginning);
  static constexpr std::size_t kBeginning = 4096;

  /// Something that is read, also one that is known only after an output: `what` as messages say it, "the
  /// model". An empty path is nothing.
  void reads(std::string_view what, const std::filesystem::path& path);
  /// A place that belongs to an output or a source, where something may be written or read all the same.
  void allows(const std::filesystem::path& place);

  /// A folder that is written whole (AtomicFolder).
  std::filesystem::path folder(const std::filesystem::path& name, bool replace);
  /// A file that is written whole (AtomicFile). `own`: what of that name may be replaced.
  std::filesystem::path file(const std::filesystem::path& name, bool replace, Recogniser own);
  /// A folder that the command makes or goes on with; whoever works in it knows whether it may.
  std::filesystem::path workspace(const std::filesystem::path& name);
  /// A file that the command makes or goes on with.
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
