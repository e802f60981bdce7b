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

/// Token sets that a run measures on: what its strategies see, and what the guard judges by.
inline constexpr std::string_view kSearchSet = "search";
inline constexpr std::string_view kHeldOutSet = "heldout";

/// A measurement as the archive gives it back: per_token rounded to fp16 (a relative error of at most
/// 2^-11, below 6e-5 an absolute one of 3e-8), everything else exact. At 8192 tokens that is 16 KiB; the
/// mean of a paired difference changes by about a hundredth of its standard error or less, even for two
/// candidates whose tokens differ by 2 %. run_search()
/// tells strategies this, so that it makes no difference whether an answer is new.
Measurement kept(Measurement measurement);

/// One search of a run: a strategy with its options and seed.
struct SearchRecord {
  std::int64_t id = 0;
  std::string strategy;
  std::string options;  ///< OptionValues::to_string() and whatever else decides about its course
  std::uint64_t seed = 0;
  bool finished = false;
};

/// One question of a search and its answer, in the order in which they were asked; each point once for each
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

/// A strategy's note and when it was made.
struct StoredNote {
  std::int64_t search = 0;
  std::int64_t batch = 0;
  Note note;
};

/// An archive that is being made, or whose maker was killed: nothing is in it yet.
class EmptyArchive : public IoError {
 public:
  using IoError::IoError;
};

/// Everything that was ever measured in a run, in a SQLite file that survives kill -9 at any moment and can
/// be read while another process writes. A measurement is safe from that when add() returns; if the power
/// fails, at most the last quarter of a second is lost (a sync for every one would slow small models down).
///
/// While it is open there are files with -wal, -shm and .lock behind its name; a killed process leaves them,
/// and the next one takes up what -wal holds: they belong to the archive and go with it when it is copied.
/// All functions throw IoError when the disk is full or failing, and InputError where the file is damaged.
class Archive {
 public:
  /// Creates the file if there is none. One process writes at a time: throws IoError if another does, and
  /// InputError for a file that is no archive or of another version.
  static Archive create(const std::filesystem::path& path);
  /// For reading only, also while another process writes, and on media that cannot be written. Throws IoError
  /// if there is none or nothing in it yet, else as create().
  static Archive open(const std::filesystem::path& path);
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;
  ~Archive();

  const std::filesystem::path& path() const;
  bool writable() const;  ///< made by create()

  /// Named texts and bytes that describe the run: what it is of, its token sets.
  std::optional<std::string> about(std::string_view name) const;
  void set_about(std::string_view name, std::string_view value);

  /// From now on every point that is read has to be one of this space (else InputError), so that its levels
  /// can be used as indices.
  void expect(const SearchSpace& space);

  /// A measurement of `set` with exactly so many windows, or with the most windows up to `windows`.
  std::optional<Measurement> find(std::string_view set, const Point& point, std::int64_t windows) const;
  std::optional<Measurement> find_at_most(std::string_view set, const Point& point,
                                          std::int64_t windows) const;
  /// Keeps kept(measurement); leaves one that is there already as it is. `per_token` has measurement.tokens
  /// elements or none. `seconds` is what it took.
  void add(std::string_view set, const Point& point, const Measurement& measurement, double seconds);

  /// The search with this strategy, options and seed; made if there is none.
  SearchRecord search(std::string_view strategy, std::string_view options, std::uint64_t seed);
  std::vector<SearchRecord> searches() const;
  void finish(std::int64_t search);
  /// Adds the steps and notes of one batch, whole or not at all. Steps are of kSearchSet, and their
  /// measurements have been added. Steps and notes that are there already are left alone; throws InputError
  /// if such a step is of another point or fidelity: the search was begun by a program that goes another way.
  void add_batch(std::int64_t search, std::int64_t batch, const std::vector<Step>& steps,
                 const std::vector<Note>& notes);
  std::vector<Step> steps(std::int64_t search) const;
  std::vector<StoredNote> notes(std::int64_t search) const;

  struct Entry {
    Point point;
    Measurement measurement;  ///< without per_token
    double seconds = 0;
  };
  /// All points measured on `windows` windows of a set, in the order of measuring. 0: the most windows that
  /// any was measured on, which are all of them, as run_search() begins with those.
  std::vector<Entry> entries(std::string_view set, std::int64_t windows = 0) const;

 private:
  struct Impl;
  explicit Archive(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
