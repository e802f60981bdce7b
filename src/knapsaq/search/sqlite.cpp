#include "knapsaq/search/sqlite.h"

#include <cstring>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <sqlite3.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

// A checkpoint or another reader's start holds a lock for a moment; a lock that is held longer belongs to
// another program.
constexpr int kPatienceMilliseconds = 5000;

int open_flags(Database::Mode mode) {
  // One thread uses a connection at a time.
  constexpr int kAlways = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
  if (mode == Database::Mode::write) return kAlways | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  // Only a connection that can write may remove the files at the end; SQLite does so if it is the last one.
  if (mode == Database::Mode::visit) return kAlways | SQLITE_OPEN_READWRITE;
  return kAlways | SQLITE_OPEN_READONLY;
}

/// In SQLite's URI notation, with special characters escaped.
std::string uri(const std::filesystem::path& path, Database::Mode mode) {
  std::string result = "file:";
  for (const char c : path.string()) {
    if (c == '%' || c == '?' || c == '#')
      result += fmt::format("%{:02x}", static_cast<unsigned>(c));
    else
      result += c;
  }
  if (mode == Database::Mode::immutable) result += "?immutable=1";
  return result;
}

}  // namespace

Database::Database(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  sqlite3* handle = nullptr;
  // A relative name like "//x" or one with a colon would not be read as a path.
  const std::string name = uri(std::filesystem::absolute(path_), mode);
  const int result = sqlite3_open_v2(name.c_str(), &handle, open_flags(mode), nullptr);
  handle_.reset(handle);
  if (handle == nullptr) throw IoError(fmt::format("{}: no memory to open it", path_.string()));
  if (result != SQLITE_OK) fail();
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kPatienceMilliseconds);
  // The file is untrusted: its schema must do nothing except hold data.
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  run("PRAGMA cell_size_check = ON");
  if (mode == Mode::visit) run("PRAGMA query_only = ON");
}

void Database::Close::operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }

void Database::run(const char* sql) {
  if (sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail();
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(handle()) == 0; }

void Database::fail() const {
  const std::string file = path_.string();
  const int extended = sqlite3_extended_errcode(handle());
  const int system = sqlite3_system_errno(handle());
  // Its message may quote the content of a damaged file.
  const std::string words = in_quotes(sqlite3_errmsg(handle()));
  const std::string reason = system != 0 ? std::strerror(system) : words;
  switch (extended & 0xFF) {
    case SQLITE_NOTADB:
      throw InputError(fmt::format("{}: is not a SQLite file: give another one", file));
    case SQLITE_CORRUPT:
      throw InputError(fmt::format(
          "{}: is damaged (SQLite says {}): restore a copy, or start anew under another name", file, words));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw IoError(fmt::format("{}: another program holds a lock on it: close that and try again", file));
    case SQLITE_FULL:
      throw IoError(
          fmt::format("{}: the disk is full: make room and try again; what it holds is safe", file));
    case SQLITE_READONLY:
    case SQLITE_PERM:
      throw IoError(
          fmt::format("{}: cannot be written (SQLite says {}): look at its permissions and its "
                      "folder's",
                      file, words));
    case SQLITE_CANTOPEN:
      throw IoError(fmt::format("{}: cannot be opened: {}", file, reason));
    case SQLITE_IOERR:
      // A quota or a limit on a file's size also ends here; SQLite does not always keep the system's reason.
      if (extended == SQLITE_IOERR_WRITE || extended == SQLITE_IOERR_FSYNC ||
          extended == SQLITE_IOERR_TRUNCATE || extended == SQLITE_IOERR_SHMSIZE)
        throw IoError(
            fmt::format("{}: cannot be written (SQLite says {}): make room on the disk and try "
                        "again; what it holds is safe",
                        file, words));
      throw IoError(fmt::format("{}: cannot be read: {}", file, reason));
    default:
      throw IoError(fmt::format("{}: SQLite says {} (its error {})", file, words, extended));
  }
}

Query::Query(const Database& database, std::string_view sql) : database_(database) {
  sqlite3_stmt* handle = nullptr;
  const int result =
      sqlite3_prepare_v2(database.handle(), sql.data(), static_cast<int>(sql.size()), &handle, nullptr);
  handle_.reset(handle);
  check(result);
}

void Query::Finalize::operator()(sqlite3_stmt* handle) const { sqlite3_finalize(handle); }

void Query::check(int result) const {
  if (result != SQLITE_OK) database_.fail();
}

void Query::bind(int index, std::int64_t value) { check(sqlite3_bind_int64(handle_.get(), index, value)); }

void Query::bind(int index, double value) { check(sqlite3_bind_double(handle_.get(), index, value)); }

void Query::bind(int index, std::string_view value) {
  // A null pointer would bind NULL.
  check(sqlite3_bind_text64(handle_.get(), index, value.data() != nullptr ? value.data() : "", value.size(),
                            SQLITE_STATIC, SQLITE_UTF8));
}

void Query::bind(int index, std::span<const std::uint8_t> value) {
  if (value.empty())
    check(sqlite3_bind_zeroblob(handle_.get(), index, 0));
  else
    check(sqlite3_bind_blob64(handle_.get(), index, value.data(), value.size(), SQLITE_STATIC));
}

bool Query::next() {
  const int result = sqlite3_step(handle_.get());
  if (result == SQLITE_ROW) return true;
  if (result != SQLITE_DONE) database_.fail();
  return false;
}

void Query::expect(int column, int type) const {
  if (sqlite3_column_type(handle_.get(), column) != type)
    throw InputError(fmt::format("{}: is damaged: its column {} holds something else than it should",
                                 database_.path().string(),
                                 in_quotes(sqlite3_column_name(handle_.get(), column))));
}

std::int64_t Query::integer(int column) const {
  expect(column, SQLITE_INTEGER);
  return sqlite3_column_int64(handle_.get(), column);
}

bool Query::is_null(int column) const { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }

double Query::real(int column) const {
  if (is_null(column)) return std::numeric_limits<double>::quiet_NaN();
  expect(column, SQLITE_FLOAT);
  return sqlite3_column_double(handle_.get(), column);
}

std::string Query::text(int column) const {
  expect(column, SQLITE_TEXT);
  const unsigned char* data = sqlite3_column_text(handle_.get(), column);
  if (data == nullptr) database_.fail();
  return {reinterpret_cast<const char*>(data),
          static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column))};
}

std::span<const std::uint8_t> Query::bytes(int column) const {
  expect(column, SQLITE_BLOB);
  const void* data = sqlite3_column_blob(handle_.get(), column);
  return {static_cast<const std::uint8_t*>(data),
          static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column))};
}

Transaction::Transaction(Database& database) : database_(database) { database_.run("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  // Some errors (a full disk) have already ended it.
  if (database_.in_transaction()) sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() { database_.run("COMMIT"); }

}  // namespace knapsaq
