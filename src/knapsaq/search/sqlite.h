#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace knapsaq {

/// A connection to a SQLite file. Every error of SQLite becomes one line with the file's name: IoError for
/// what the system refuses (a full disk, a lock, a folder without write permission), InputError for a file
/// that is not a database or is damaged.
class Database {
 public:
  enum class Mode {
    read,       ///< never changes the content, but may leave SQLite's -wal and -shm files
    visit,      ///< the same, but removes such files if there is no -wal file with content
    write,      ///< creates the file if there is none
    immutable,  ///< read, without any lock or file beside it: for read-only media
  };
  Database(std::filesystem::path path, Mode mode);

  /// Statements without parameters or results.
  void run(const char* sql);
  /// True between a transaction's begin and its end.
  bool in_transaction() const;
  const std::filesystem::path& path() const { return path_; }
  sqlite3* handle() const { return handle_.get(); }
  /// Throws the error of SQLite's last result code.
  [[noreturn]] void fail() const;

 private:
  struct Close {
    void operator()(sqlite3* handle) const;
  };
  std::filesystem::path path_;
  std::unique_ptr<sqlite3, Close> handle_;
};

/// One statement with its parameters (?1, ?2, ..). Bound text and bytes must outlive it.
class Query {
 public:
  Query(const Database& database, std::string_view sql);
  template <class... Values>
  Query(const Database& database, std::string_view sql, const Values&... values) : Query(database, sql) {
    int index = 0;
    (bind(++index, values), ...);
  }

  /// Advances to the first or next row; false if there is none.
  bool next();
  /// For statements without results.
  void run() { next(); }

  /// Values of the current row by column, from 0. Throw InputError if the file has another type there.
  std::int64_t integer(int column) const;
  bool is_null(int column) const;
  double real(int column) const;  ///< NaN for NULL: SQLite has no NaN of its own
  std::string text(int column) const;
  /// Valid until the next call of next().
  std::span<const std::uint8_t> bytes(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* handle) const;
  };
  void bind(int index, std::int64_t value);
  void bind(int index, double value);
  void bind(int index, std::string_view value);
  void bind(int index, std::span<const std::uint8_t> value);
  void check(int result) const;
  void expect(int column, int type) const;

  const Database& database_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

/// Everything until commit() is kept as a whole, or not at all if commit() is never reached.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
};

}  // namespace knapsaq
