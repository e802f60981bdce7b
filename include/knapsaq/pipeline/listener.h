#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "knapsaq/base/progress.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/search_status.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// What a listener sees of a search that begins.
struct SearchView {
  const SearchSpace* space = nullptr;  ///< until search_ends()
  Divergence divergence = Divergence::kl;
  std::string strategy;          ///< for people: "front", "3 of 40: ga"
  std::optional<Budget> budget;  ///< what the user wants in the end, if known
  bool can_stop =
      false;  ///< a file `stop` in the run's folder ends it after the points that are measured then
};

/// Hears what the work of a session does: stages with their progress, notes, and the course of searches.
/// Everything but advance() is called from the thread that called the session.
class Listener : public Progress {
 public:
  void begin(std::string_view /*what*/, std::uint64_t /*total*/, std::string_view /*unit*/) override {}
  void advance(std::uint64_t /*done*/) override {}
  void end() override {}
  /// A line about the inputs that a person should know; no error.
  virtual void note(std::string_view /*line*/) {}
  /// What the present stage has reached so far, as "KL 0.0978 to 0.0645"; to be shown beside its name.
  virtual void so_far(std::string_view /*what*/) {}
  /// Work on the run in this folder begins: the folder is there, and a run of these options may be made in
  /// it.
  virtual void run_begins(const std::filesystem::path& /*folder*/) {}
  virtual void search_begins(const SearchView& /*view*/) {}
  /// After every answer (run_search()).
  virtual void searching(const SearchStatus& /*status*/) {}
  virtual void search_ends() {}
};

}  // namespace knapsaq
