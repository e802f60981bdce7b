#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/run_search.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// Writes the RunStatus of this process into a run's folder, for pages that follow the run: a thread of its
/// own replaces the file once a second, so that no caller ever waits for the disk. Nothing here throws or
/// fails a run: while the folder is not there, or cannot be written, there is no file.
///
/// All functions may be called from any thread.
class StatusFile final : public Progress {
 public:
  explicit StatusFile(const std::filesystem::path& run);
  /// A run that was neither finished() nor failed() is stopped.
  ~StatusFile() override;
  StatusFile(const StatusFile&) = delete;
  StatusFile& operator=(const StatusFile&) = delete;

  /// Stages may lie inside of each other; the innermost one is shown.
  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override;
  void advance(std::uint64_t done) override;
  void end() override;

  /// What the search is after, if anything; shown from now on.
  void budget(const Budget& budget);

  /// A search begins. `space` has to live until search_ends(). `can_stop`: the search looks for a StopFile.
  void search_begins(const SearchSpace& space, Divergence divergence, std::string_view strategy,
                     bool can_stop);
  /// Its state, as run_search() gives it after every answer.
  void searching(const SearchStatus& status);
  void search_ends();

  /// A line for the log: something was decided. The latest 300 lines are kept.
  void note(std::string_view text);

  void finished(std::string_view text);
  void failed(std::string_view reason);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace knapsaq
