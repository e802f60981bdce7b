#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/error.h"
#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

/// Token sets on which a run measures: the one that its strategies see, and the one of the guard.
inline constexpr std::string_view kSearchSet = "search";
inline constexpr std::string_view kHeldOutSet = "heldout";

/// A measurement as the archive returns it: per_token rounded to fp16 (a relative error of at most 2^-11;
/// below 6e-5, an absolute error of 3e-8), everything else exact. At 8192 tokens this takes 16 KiB. The mean
/// of a paired difference changes by at most about a hundredth of its standard error, even for two candidates
/// whose tokens differ by 2 %. run_search() gives strategies this form, so that it makes no difference
/// whether an answer is new.
Measurement kept(Measurement measurement);

/// One search of a run: a strategy with its options and seed.
struct SearchRecord {
  std::int64_t id = 0;
  std::string strategy;
  std::string options;  ///< OptionValues::to_string() and everything else that determines its course
  std::uint64_t seed = 0;
  bool finished = false;
};

/// One question of a search and its answer, in the order of the questions. Each point appears once for each
/// fidelity, when the search asked for it first.
struct Step {
  std::int64_t search = 0;
  std::int64_t ordinal = 0;  ///< 0, 1, ..: within the search
  std::int64_t batch = 0;
  std::string phase;
  Point point;
  std::optional<double> predicted;
  double cost = 0;          ///< its share of the batch's cost, in full passes
  Measurement measurement;  ///< without per_token
};

/// A strategy's note, and when it was made.
struct StoredNote {
  std::int64_t search = 0;
  std::int64_t batch = 0;
  Note note;
};

/// An archive that is being created, or whose creator was killed: it is still empty.
class EmptyArchive : public IoError {
 public:
  using IoError::IoError;
};

/// Everything that was ever measured in a run, in a SQLite file that survives kill -9 at any moment and can
/// be read while another process writes. A measurement survives a kill as soon as add() returns. A power
/// failure loses at most the last quarter of a second (a sync for every measurement would slow down small
/// models).
///
/// While the archive is open, files with the endings -wal, -shm and .lock lie beside it. A killed process
/// leaves them, and the next one recovers the content of -wal; they belong to the archive and must be copied
/// with it. All functions throw IoError if the disk is full or fails, and InputError if the file is damaged.
class Archive {
 public:
  /// Creates the file if it does not exist. One process writes at a time: throws IoError if another does, and
  /// InputError for a file that is not an archive or has another version.
  static Archive create(const std::filesystem::path& path);
  /// For reading only, also while another process writes, and on read-only media. Throws IoError if the
  /// archive does not exist or is empty, else like create().
  static Archive open(const std::filesystem::path& path);
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;
  ~Archive();

  const std::filesystem::path& path() const;
  bool writable() const;  ///< returned by create()

  /// Named texts and bytes that describe the run: its model and settings, its token sets.
  std::optional<std::string> about(std::string_view name) const;
  void set_about(std::string_view name, std::string_view value);

  /// Requires that every point read from now on belongs to this space (else InputError), so that its levels
  /// can be used as indices.
  void expect(const SearchSpace& space);

  /// A measurement of `set` with exactly this many windows, or with the most windows up to `windows`.
  std::optional<Measurement> find(std::string_view set, const Point& point, std::int64_t windows) const;
  std::optional<Measurement> find_at_most(std::string_view set, const Point& point,
                                          std::int64_t windows) const;
  /// Stores kept(measurement); an existing one is left unchanged. `per_token` has measurement.tokens elements
  /// or none. `seconds` is the time it took.
  void add(std::string_view set, const Point& point, const Measurement& measurement, double seconds);

  /// The search with this strategy, options and seed; created if it does not exist.
  SearchRecord search(std::string_view strategy, std::string_view options, std::uint64_t seed);
  std::vector<SearchRecord> searches() const;
  void finish(std::int64_t search);
  /// Adds the steps and notes of one batch, all or none. Steps refer to kSearchSet, and their measurements
  /// must have been added. Existing steps and notes are left unchanged. Throws InputError if an existing step
  /// has another point or fidelity: the search was started by a program that takes another course.
  void add_batch(std::int64_t search, std::int64_t batch, const std::vector<Step>& steps,
                 const std::vector<Note>& notes);
  std::vector<Step> steps(std::int64_t search) const;
  std::vector<StoredNote> notes(std::int64_t search) const;

  struct Entry {
    Point point;
    Measurement measurement;  ///< without per_token
    double seconds = 0;
  };
  /// All points measured on `windows` windows of a set, in the order of measurement. 0: the largest number of
  /// windows that any was measured on; these are all windows, because run_search() begins with them.
  std::vector<Entry> entries(std::string_view set, std::int64_t windows = 0) const;

 private:
  struct Impl;
  explicit Archive(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
