#include "knapsaq/search/archive.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <unistd.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/search/sqlite.h"
#include "knapsaq/search/writer_lock.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

// "KSAQ": distinguishes Knapsaq's files from other programs' (SQLite's application_id).
constexpr std::int64_t kApplication = 0x4B534151;
// Version of the tables below; incremented by every change.
constexpr std::int64_t kVersion = 1;

// A sync of the disk takes 1 to 10 ms. That is much for small models with dozens of measurements a second and
// nothing for large ones. At this frequency it costs a few percent at most.
constexpr std::chrono::milliseconds kBetweenSyncs{250};
// A commit waits for the disk, with all commits before it, or leaves the write to the system, which completes
// it even if the process is killed.
constexpr const char* kSynced = "PRAGMA synchronous = FULL";
constexpr const char* kUnsynced = "PRAGMA synchronous = NORMAL";
enum class Sync : std::uint8_t { now, when_due };

// The comments stay in the file, for people who open it with sqlite3. Numbers without a value (NaN) are NULL.
constexpr const char* kSchema[] = {
    R"(CREATE TABLE about (  -- what the run is of
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT)",
    // per_token comes last: rows are read from the front, and its pages only on request.
    R"(CREATE TABLE measurement (
  id INTEGER PRIMARY KEY,  -- the order of measuring
  token_set TEXT NOT NULL,  -- search, heldout
  point BLOB NOT NULL,  -- one byte for each variable: the number of its level
  windows INTEGER NOT NULL,  -- the first so many of the token set
  tokens INTEGER NOT NULL,  -- that were scored
  kl REAL,  -- mean over tokens, nats
  jsd REAL,
  loss REAL,  -- mean negative log-likelihood, nats
  agreement REAL,  -- share of tokens with the reference's most likely next one
  seconds REAL,  -- that it took
  window_loss BLOB NOT NULL,  -- mean loss of every window, binary32, little-endian; or nothing
  per_token BLOB NOT NULL,  -- the run's divergence of every token, binary16, little-endian; or nothing
  UNIQUE (token_set, point, windows)
) STRICT)",
    R"(CREATE TABLE search (
  id INTEGER PRIMARY KEY,
  strategy TEXT NOT NULL,
  options TEXT NOT NULL,
  seed INTEGER NOT NULL,  -- the bits of an unsigned one
  finished INTEGER NOT NULL,  -- 0 or 1
  UNIQUE (strategy, options, seed)
) STRICT)",
    R"(CREATE TABLE step (  -- what a search asked for, each point once for each fidelity
  search INTEGER NOT NULL REFERENCES search,
  ordinal INTEGER NOT NULL,  -- 0, 1, ..
  batch INTEGER NOT NULL,
  phase TEXT NOT NULL,
  measurement INTEGER NOT NULL REFERENCES measurement,
  predicted REAL,  -- divergence that the strategy expected
  cost REAL NOT NULL,  -- in passes of the whole model over the whole token set
  PRIMARY KEY (search, ordinal)
) STRICT, WITHOUT ROWID)",
    R"(CREATE TABLE note (  -- one number of one row of a strategy's own tables
  search INTEGER NOT NULL REFERENCES search,
  batch INTEGER NOT NULL,  -- after which it was noted
  row INTEGER NOT NULL,  -- of this batch
  field INTEGER NOT NULL,  -- of this row
  kind TEXT NOT NULL,  -- the table
  name TEXT NOT NULL,  -- the column
  value REAL,
  PRIMARY KEY (search, batch, row, field)
) STRICT, WITHOUT ROWID)",
};

/// A token's divergence may be finite and exceed fp16. It becomes the largest fp16 number, because infinities
/// have no differences.
std::uint16_t nearest_half(float value) {
  constexpr float kLargest = 65504;
  return float_to_half(std::isfinite(value) ? std::clamp(value, -kLargest, kLargest) : value);
}

std::vector<std::uint8_t> pack(std::span<const float> values) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(2 * values.size());
  for (const float value : values) {
    const std::uint16_t half = nearest_half(value);
    bytes.push_back(static_cast<std::uint8_t>(half & 0xFFu));
    bytes.push_back(static_cast<std::uint8_t>(half >> 8));
  }
  return bytes;
}

std::vector<float> unpack(std::span<const std::uint8_t> bytes) {
  std::vector<float> values(bytes.size() / 2);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = half_to_float(static_cast<std::uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8));
  return values;
}

std::vector<std::uint8_t> pack_floats(std::span<const float> values) {
  std::vector<std::uint8_t> bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<std::uint8_t>(bits >> shift));
  }
  return bytes;
}

std::vector<float> unpack_floats(std::span<const std::uint8_t> bytes) {
  std::vector<float> values(bytes.size() / 4);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t bits = 0;
    for (std::size_t b = 0; b < 4; ++b) bits |= std::uint32_t{bytes[4 * i + b]} << (8 * b);
    values[i] = std::bit_cast<float>(bits);
  }
  return values;
}

std::int64_t pragma(const Database& database, std::string_view name) {
  Query query(database, fmt::format("PRAGMA {}", name));
  query.next();
  return query.integer(0);
}

std::vector<std::string> schema_of(const Database& database) {
  std::vector<std::string> result;
  Query query(database,
              "SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
              "ORDER BY rowid");
  while (query.next()) result.push_back(query.text(0));
  return result;
}

bool is_new(const Database& database) {
  return pragma(database, "application_id") == 0 && pragma(database, "user_version") == 0 &&
         schema_of(database).empty();
}

void check_identity(const Database& database) {
  const std::string file = database.path().string();
  if (pragma(database, "application_id") != kApplication)
    throw InputError(fmt::format("{}: is not an archive of a search: give another name", file));
  const std::int64_t version = pragma(database, "user_version");
  if (version != kVersion)
    throw InputError(
        fmt::format("{}: is an archive of version {}, and this program writes version {}: use "
                    "the Knapsaq that made it, or start anew under another name",
                    file, version, kVersion));
  const std::vector<std::string> schema = schema_of(database);
  if (!std::equal(schema.begin(), schema.end(), std::begin(kSchema), std::end(kSchema)))
    throw InputError(
        fmt::format("{}: its tables are not those of an archive: restore a copy, or start anew "
                    "under another name",
                    file));
  // A damaged or forged file may have pages that belong to several tables, or to one of them many times:
  // reading it could be endless. This check visits every page once, at gigabytes per second.
  Query check(database, "PRAGMA quick_check(1)");
  if (!check.next() || check.text(0) != "ok")
    throw InputError(fmt::format("{}: is damaged: restore a copy, or start anew under another name", file));
}

/// The tables and the marks of the file, all or nothing: a process killed here leaves an empty file, which
/// the next one fills.
void fill(Database& database) {
  Transaction transaction(database);
  for (const char* table : kSchema) database.run(table);
  database.run(fmt::format("PRAGMA application_id = {}", kApplication).c_str());
  database.run(fmt::format("PRAGMA user_version = {}", kVersion).c_str());
  transaction.commit();
}

fs::path beside(const fs::path& path, std::string_view ending) {
  fs::path result = path;
  result += ending;
  return result;
}

/// SQLite's readers register in the -shm file, so they need an existing one or the right to create it.
/// Without both, nobody writes, and the file can be read directly unless the -wal file contains something
/// that was never merged.
Database::Mode reading_mode(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code ignored;
  const fs::path log = beside(path, "-wal");
  const bool has_log = fs::exists(log, ignored) && fs::file_size(log, ignored) != 0;
  if (::access(folder.c_str(), W_OK) == 0) return has_log ? Database::Mode::read : Database::Mode::visit;
  if (fs::exists(beside(path, "-shm"), ignored)) return Database::Mode::read;
  if (!has_log) return Database::Mode::immutable;
  throw IoError(
      fmt::format("{}: its last measurements are still in {}, and reading those needs a folder that "
                  "can be written: copy both into one",
                  path.string(), log.filename().string()));
}

}  // namespace

Measurement kept(Measurement measurement) {
  for (float& value : measurement.per_token) value = half_to_float(nearest_half(value));
  return measurement;
}

struct Archive::Impl {
  std::unique_ptr<WriterLock> lock;  // first: released after the connection is closed
  Database database;
  std::vector<std::size_t> levels;  // of each variable of the space, if one was given
  bool expects = false;
  std::chrono::steady_clock::time_point synced;  // time of the last one

  Impl(std::unique_ptr<WriterLock> held, Database opened)
      : lock(std::move(held)), database(std::move(opened)) {}
  /// A writer's end. The last connection that closes takes the log in; where a reader stays, this does.
  ~Impl() {
    if (!lock) return;
    try {
      database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
      // What the log holds is safe there, too.
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  /// Calls `change`, which makes one transaction.
  template <class Change>
  void write(Sync sync, const Change& change) {
    const bool waits = sync == Sync::now || std::chrono::steady_clock::now() - synced >= kBetweenSyncs;
    database.run(waits ? kSynced : kUnsynced);
    change();
    if (waits) synced = std::chrono::steady_clock::now();
  }

  [[noreturn]] void damaged(std::string_view what) const {
    throw InputError(fmt::format("{}: is damaged: {}: restore a copy, or start anew under another name",
                                 database.path().string(), what));
  }

  Point point(const Query& query, int column) const {
    const auto bytes = query.bytes(column);
    if (expects) {
      bool fits = bytes.size() == levels.size();
      for (std::size_t v = 0; fits && v < levels.size(); ++v) fits = bytes[v] < levels[v];
      if (!fits) damaged("it holds a point that is none of this search space");
    }
    return {bytes.begin(), bytes.end()};
  }

  /// From six columns in the order of kNumbers.
  Measurement measurement(const Query& query, int column) const {
    Measurement result;
    result.windows = query.integer(column);
    result.tokens = query.integer(column + 1);
    result.kl = query.real(column + 2);
    result.jsd = query.real(column + 3);
    result.loss = query.real(column + 4);
    result.agreement = query.real(column + 5);
    if (result.windows < 1 || result.tokens < 1) damaged("it holds a measurement of no tokens");
    return result;
  }

  /// The first row of a query for kNumbers and per_token.
  std::optional<Measurement> first(Query query) const {
    if (!query.next()) return std::nullopt;
    Measurement result = measurement(query, 0);
    const auto windows = query.bytes(6);
    if (!windows.empty() && (windows.size() % 4 != 0 || std::ssize(windows) / 4 != result.windows))
      damaged("it holds a measurement with a wrong number of windows");
    result.window_loss = unpack_floats(windows);
    const auto bytes = query.bytes(7);
    if (!bytes.empty() && (bytes.size() % 2 != 0 || std::ssize(bytes) / 2 != result.tokens))
      damaged("it holds a measurement with a wrong number of tokens");
    result.per_token = unpack(bytes);
    return result;
  }

  void add_step(std::int64_t search, std::int64_t batch, const Step& step) {
    Query measured(database,
                   "SELECT id FROM measurement WHERE token_set = ?1 AND point = ?2 AND windows = ?3",
                   kSearchSet, step.point, step.measurement.windows);
    if (!measured.next()) damaged("a measurement that was added is not there");
    const std::int64_t id = measured.integer(0);
    Query known(database, "SELECT measurement FROM step WHERE search = ?1 AND ordinal = ?2", search,
                step.ordinal);
    if (known.next()) {
      if (known.integer(0) == id) return;
      throw InputError(
          fmt::format("{}: search {} asked for something else as its question {} when it was begun: another "
                      "version of Knapsaq did that; give another seed or start anew under another name",
                      database.path().string(), search, step.ordinal));
    }
    Query(database,
          "INSERT INTO step (search, ordinal, batch, phase, measurement, predicted, cost) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
          search, step.ordinal, batch, step.phase, id,
          step.predicted.value_or(std::numeric_limits<double>::quiet_NaN()), step.cost)
        .run();
  }

  void add_note(std::int64_t search, std::int64_t batch, std::int64_t row, const Note& note) {
    for (std::size_t field = 0; field < note.values.size(); ++field)
      Query(database,
            "INSERT INTO note (search, batch, row, field, kind, name, value) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (search, batch, row, field) DO NOTHING",
            search, batch, row, static_cast<std::int64_t>(field), note.kind, note.values[field].first,
            note.values[field].second)
          .run();
  }
};

Archive::Archive(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Archive::Archive(Archive&&) noexcept = default;
Archive& Archive::operator=(Archive&&) noexcept = default;
Archive::~Archive() = default;

Archive Archive::create(const fs::path& path) {
  auto lock = std::make_unique<WriterLock>(path);
  Database database(path, Database::Mode::write);
  // The log first (a database with tables keeps its mode): readers and the writer do not wait for each other,
  // and a commit is one write at the end of one file.
  const bool empty = is_new(database);
  if (!empty) check_identity(database);
  database.run("PRAGMA journal_mode = WAL");
  database.run(kSynced);
  if (empty) fill(database);
  return Archive(std::make_unique<Impl>(std::move(lock), std::move(database)));
}

Archive Archive::open(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    throw IoError(fmt::format("{}: there is no such archive: begin a search first", path.string()));
  Database database(path, reading_mode(path));
  if (is_new(database))
    throw EmptyArchive(fmt::format("{}: is empty yet: try again when the search has begun", path.string()));
  check_identity(database);
  return Archive(std::make_unique<Impl>(nullptr, std::move(database)));
}

bool Archive::writable() const { return impl_->lock != nullptr; }

const fs::path& Archive::path() const { return impl_->database.path(); }

std::optional<std::string> Archive::about(std::string_view name) const {
  Query query(impl_->database, "SELECT value FROM about WHERE name = ?1", name);
  if (!query.next()) return std::nullopt;
  const auto bytes = query.bytes(0);
  return std::string(bytes.begin(), bytes.end());
}

void Archive::set_about(std::string_view name, std::string_view value) {
  const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(value.data()),
                                            value.size());
  if (about(name) == value) return;  // not even the file's change counter is updated
  impl_->write(Sync::now, [&] {
    Query(impl_->database,
          "INSERT INTO about VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name,
          bytes)
        .run();
  });
}

void Archive::expect(const SearchSpace& space) {
  impl_->levels.clear();
  for (const Variable& variable : space.variables) impl_->levels.push_back(variable.levels.size());
  impl_->expects = true;
}

std::optional<Measurement> Archive::find(std::string_view set, const Point& point,
                                         std::int64_t windows) const {
  return impl_->first(
      Query(impl_->database,
            "SELECT windows, tokens, kl, jsd, loss, agreement, window_loss, per_token FROM measurement "
            "WHERE token_set = ?1 AND point = ?2 AND windows = ?3",
            set, point, windows));
}

std::optional<Measurement> Archive::find_at_most(std::string_view set, const Point& point,
                                                 std::int64_t windows) const {
  return impl_->first(
      Query(impl_->database,
            "SELECT windows, tokens, kl, jsd, loss, agreement, window_loss, per_token FROM measurement "
            "WHERE token_set = ?1 AND point = ?2 AND windows <= ?3 "
            "ORDER BY windows DESC LIMIT 1",
            set, point, windows));
}

void Archive::add(std::string_view set, const Point& point, const Measurement& measurement, double seconds) {
  const std::vector<std::uint8_t> per_token = pack(measurement.per_token);
  const std::vector<std::uint8_t> window_loss = pack_floats(measurement.window_loss);
  impl_->write(Sync::when_due, [&] {
    Query(impl_->database,
          "INSERT INTO measurement (token_set, point, windows, tokens, kl, jsd, loss, agreement, seconds, "
          "window_loss, per_token) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
          "ON CONFLICT (token_set, point, windows) DO NOTHING",
          set, point, measurement.windows, measurement.tokens, measurement.kl, measurement.jsd,
          measurement.loss, measurement.agreement, seconds, window_loss, per_token)
        .run();
  });
}

SearchRecord Archive::search(std::string_view strategy, std::string_view options, std::uint64_t seed) {
  const auto stored_seed = std::bit_cast<std::int64_t>(seed);
  impl_->write(Sync::now, [&] {
    Query(impl_->database,
          "INSERT INTO search (strategy, options, seed, finished) VALUES (?1, ?2, ?3, 0) "
          "ON CONFLICT (strategy, options, seed) DO NOTHING",
          strategy, options, stored_seed)
        .run();
  });
  Query query(impl_->database,
              "SELECT id, finished FROM search WHERE strategy = ?1 AND options = ?2 AND seed = ?3", strategy,
              options, stored_seed);
  if (!query.next()) impl_->damaged("a search that was added is not there");
  return {query.integer(0), std::string(strategy), std::string(options), seed, query.integer(1) != 0};
}

std::vector<SearchRecord> Archive::searches() const {
  std::vector<SearchRecord> result;
  Query query(impl_->database, "SELECT id, strategy, options, seed, finished FROM search ORDER BY id");
  while (query.next())
    result.push_back({query.integer(0), query.text(1), query.text(2),
                      std::bit_cast<std::uint64_t>(query.integer(3)), query.integer(4) != 0});
  return result;
}

void Archive::finish(std::int64_t search) {
  impl_->write(Sync::now, [&] {
    Query(impl_->database, "UPDATE search SET finished = 1 WHERE id = ?1 AND finished = 0", search).run();
  });
}

void Archive::add_batch(std::int64_t search, std::int64_t batch, const std::vector<Step>& steps,
                        const std::vector<Note>& notes) {
  impl_->write(Sync::when_due, [&] {
    Transaction transaction(impl_->database);
    for (const Step& step : steps) impl_->add_step(search, batch, step);
    for (std::size_t row = 0; row < notes.size(); ++row)
      impl_->add_note(search, batch, static_cast<std::int64_t>(row), notes[row]);
    transaction.commit();
  });
}

std::vector<Step> Archive::steps(std::int64_t search) const {
  std::vector<Step> result;
  Query query(impl_->database,
              "SELECT windows, tokens, kl, jsd, loss, agreement, ordinal, batch, phase, point, predicted, "
              "cost FROM step JOIN measurement ON measurement.id = step.measurement "
              "WHERE search = ?1 ORDER BY ordinal",
              search);
  while (query.next()) {
    Step& step = result.emplace_back();
    step.search = search;
    step.measurement = impl_->measurement(query, 0);
    step.ordinal = query.integer(6);
    step.batch = query.integer(7);
    step.phase = query.text(8);
    step.point = impl_->point(query, 9);
    if (!query.is_null(10)) step.predicted = query.real(10);
    step.cost = query.real(11);
  }
  return result;
}

std::vector<StoredNote> Archive::notes(std::int64_t search) const {
  std::vector<StoredNote> result;
  std::int64_t last_row = -1;
  Query query(impl_->database,
              "SELECT batch, row, kind, name, value FROM note WHERE search = ?1 ORDER BY batch, row, field",
              search);
  while (query.next()) {
    const std::int64_t batch = query.integer(0);
    const std::int64_t row = query.integer(1);
    if (result.empty() || result.back().batch != batch || last_row != row)
      result.push_back({search, batch, {query.text(2), {}}});
    last_row = row;
    result.back().note.values.emplace_back(query.text(3), query.real(4));
  }
  return result;
}

std::vector<Archive::Entry> Archive::entries(std::string_view set, std::int64_t windows) const {
  std::vector<Entry> result;
  Query query(impl_->database,
              "SELECT windows, tokens, kl, jsd, loss, agreement, point, seconds FROM measurement "
              "WHERE token_set = ?1 AND windows = CASE ?2 WHEN 0 THEN "
              "(SELECT max(windows) FROM measurement WHERE token_set = ?1) ELSE ?2 END ORDER BY id",
              set, windows);
  while (query.next())
    result.push_back({impl_->point(query, 6), impl_->measurement(query, 0), query.real(7)});
  return result;
}

}  // namespace knapsaq
