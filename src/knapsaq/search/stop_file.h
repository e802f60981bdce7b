#pragma once

#include <filesystem>

namespace knapsaq {

/// A request from another process to end a run's search after its current batch: the file `stop` in the run's
/// folder. The search owns a StopFile and gives `[&] { return file.requested(); }` to run_search().
class StopFile {
 public:
  /// Removes a request of earlier: it was for a search that is over. Never throws: where the folder cannot be
  /// written, nobody can leave a request either.
  explicit StopFile(const std::filesystem::path& run);
  /// Removes the request.
  ~StopFile();
  StopFile(const StopFile&) = delete;
  StopFile& operator=(const StopFile&) = delete;

  bool requested() const;

 private:
  std::filesystem::path file_;
};

/// Leaves the request in the run's folder. Throws IoError.
void request_stop(const std::filesystem::path& run);

/// Whether a request waits in the run's folder.
bool stop_requested(const std::filesystem::path& run);

}  // namespace knapsaq
