#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/search/measurement.h"
#include "knapsaq/search/space.h"
#include "knapsaq/search/strategy.h"

namespace knapsaq {

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

struct StoredNote {
  std::int64_t search = 0;
  std::int64_t batch = 0;
  Note note;
};

/// Everything that was ever measured in a run, in a SQLite file that survives kill -9 at any moment and can
/// be read while another process writes. A measurement is on the disk when add() returns.
class Archive {
 public:
  /// Creates the file if there is none. One process writes at a time: throws IoError if another does, and
  /// InputError for a file that is no archive or of another version.
  static Archive create(const std::filesystem::path& path);
  /// For reading only, also while another process writes. Throws IoError if there is none.
  static Archive open(const std::filesystem::path& path);
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;
  ~Archive();

  /// Named texts and bytes that describe the run: what it is of, its token sets.
  std::optional<std::string> about(std::string_view name) const;
  void set_about(std::string_view name, std::string_view value);

  /// A measurement of `set` ("search", "heldout": the token set) with exactly so many windows, or with the
  /// most windows up to `windows`.
  std::optional<Measurement> find(std::string_view set, const Point& point, std::int64_t windows) const;
  std::optional<Measurement> find_at_most(std::string_view set, const Point& point,
                                          std::int64_t windows) const;
  void add(std::string_view set, const Point& point, const Measurement& measurement, double seconds);

  /// The search with this strategy, options and seed; made if there is none.
  SearchRecord search(std::string_view strategy, std::string_view options, std::uint64_t seed);
  std::vector<SearchRecord> searches() const;
  void finish(std::int64_t search);
  /// Adds the steps and notes of one batch, whole or not at all. Steps that are there already are left alone.
  void add_batch(std::int64_t search, const std::vector<Step>& steps, const std::vector<Note>& notes);
  std::vector<Step> steps(std::int64_t search) const;
  std::vector<StoredNote> notes(std::int64_t search) const;
  /// All points measured on all windows of a set, with what is known of them, in the order of measuring.
  struct Entry {
    Point point;
    Measurement measurement;  ///< without per_token
    double seconds = 0;
  };
  std::vector<Entry> entries(std::string_view set) const;

 private:
  struct Impl;
  explicit Archive(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
