#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "knapsaq/base/made_folder.h"
#include "knapsaq/pipeline/listener.h"
#include "knapsaq/report/status_file.h"

namespace knapsaq {

/// Passes on what it hears, and writes it into the status of the run that is worked on, if there is one.
class StatusListener final : public Listener {
 public:
  explicit StatusListener(Listener& next) : next_(next) {}

  void begin(std::string_view what, std::uint64_t total, std::string_view unit) override;
  void advance(std::uint64_t done) override;
  void end() override;
  void note(std::string_view line) override;
  void so_far(std::string_view what) override { next_.so_far(what); }
  /// Makes the folder if it is not there. The status is written from the first stage on: work that is refused
  /// before that changes nothing of a run that is there.
  void run_begins(const std::filesystem::path& folder) override;
  void search_begins(const SearchView& view) override;
  void searching(const SearchStatus& status) override;
  void search_ends() override;

  /// The work on the run is over: what it came to, or why it failed; without either it is stopped.
  void run_finished(std::string_view text);
  void run_failed(std::string_view reason);
  /// Where nothing else has come into the folder, the status does not stay either: work that is refused
  /// leaves nothing.
  void run_ends();

 private:
  void open();

  Listener& next_;
  std::optional<MadeFolder> folder_;
  std::unique_ptr<StatusFile> file_;
};

}  // namespace knapsaq
