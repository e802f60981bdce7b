// A SQLite file by way of SQL: rows of the archive's tables are changed, doubled and removed, its schema is
// tampered with, and sometimes its pages.

#include <array>
#include <memory>

#include <sqlite3.h>

#include "mutators/mutate.h"

namespace {

using fuzz::Random;

struct Column {
  std::string_view table;
  std::string_view name;
  char type;  ///< i, r, t or b
};
constexpr std::array<Column, 30> kColumns{{{"about", "name", 't'},
                                           {"about", "value", 'b'},
                                           {"measurement", "id", 'i'},
                                           {"measurement", "token_set", 't'},
                                           {"measurement", "point", 'b'},
                                           {"measurement", "windows", 'i'},
                                           {"measurement", "tokens", 'i'},
                                           {"measurement", "kl", 'r'},
                                           {"measurement", "jsd", 'r'},
                                           {"measurement", "loss", 'r'},
                                           {"measurement", "agreement", 'r'},
                                           {"measurement", "seconds", 'r'},
                                           {"measurement", "window_loss", 'b'},
                                           {"measurement", "per_token", 'b'},
                                           {"search", "id", 'i'},
                                           {"search", "strategy", 't'},
                                           {"search", "options", 't'},
                                           {"search", "seed", 'i'},
                                           {"search", "finished", 'i'},
                                           {"step", "ordinal", 'i'},
                                           {"step", "batch", 'i'},
                                           {"step", "phase", 't'},
                                           {"step", "measurement", 'i'},
                                           {"step", "predicted", 'r'},
                                           {"step", "cost", 'r'},
                                           {"note", "batch", 'i'},
                                           {"note", "row", 'i'},
                                           {"note", "kind", 't'},
                                           {"note", "name", 't'},
                                           {"note", "value", 'r'}}};

constexpr std::array<std::string_view, 14> kTampering = {
    "CREATE TRIGGER t AFTER INSERT ON measurement BEGIN DELETE FROM measurement; END",
    "CREATE TRIGGER t AFTER INSERT ON step BEGIN SELECT randomblob(1000000000); END",
    "CREATE VIEW v AS SELECT * FROM about",
    "CREATE INDEX i ON step(cost)",
    "CREATE TABLE sqlite (a)",
    "ANALYZE",
    "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', 'DEFAULT (abs(1))') WHERE name = 'note'",
    "UPDATE sqlite_schema SET rootpage = 2",
    "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'measurement'",
    "UPDATE sqlite_schema SET type = 'view' WHERE name = 'note'",
    "UPDATE sqlite_schema SET name = 'sqlite_note' WHERE name = 'note'",
    "INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_t', 'step', 0, 'CREATE TRIGGER t')",
    "PRAGMA user_version = 2",
    "VACUUM"};

std::string literal(Random& random, char type) {
  switch (type) {
    case 'i':
      return std::to_string(fuzz::any_number(random));
    case 'r': {
      constexpr std::array<std::string_view, 8> kReals = {"NULL",  "0.0",    "-1.5",   "1e308",
                                                          "9e999", "-9e999", "1e-320", "0.25"};
      return std::string(fuzz::any_of(random, kReals));
    }
    case 't': {
      constexpr std::array<std::string_view, 12> kTexts = {"''",
                                                           "'search'",
                                                           "'heldout'",
                                                           "'sensitivity'",
                                                           "'round'",
                                                           "'round 12'",
                                                           "'variable'",
                                                           "'divergence'",
                                                           "'pruned'",
                                                           "'</script>'",
                                                           "CAST(x'fffe00' AS TEXT)",
                                                           "hex(zeroblob(3000))"};
      return std::string(fuzz::any_of(random, kTexts));
    }
    default: {
      constexpr std::array<std::string_view, 8> kBytes = {
          "x''",          "x'000100'",      "x'010101'",       "x'ff0000'",
          "zeroblob(56)", "randomblob(16)", "zeroblob(20000)", "x'00007c7eff'"};
      return std::string(fuzz::any_of(random, kBytes));
    }
  }
}

std::string statement(Random& random) {
  const Column& column = fuzz::any_of(random, kColumns);
  const std::string table(column.table);
  const std::string some = " WHERE abs(random()) % 3 = 0";
  switch (fuzz::below(random, 8)) {
    case 0:
      return std::string(fuzz::any_of(random, kTampering));
    case 1:
      return "DELETE FROM " + table + some;
    case 2:
      return "INSERT OR REPLACE INTO measurement SELECT NULL, token_set, " + literal(random, 'b') +
             ", windows, tokens, " +
             "kl, jsd, loss, agreement, seconds, window_loss, per_token FROM measurement" + some;
    case 3:
      return "INSERT OR REPLACE INTO note SELECT search, batch, row + 1, field, " + literal(random, 't') +
             ", " + literal(random, 't') + ", " + literal(random, 'r') + " FROM note" + some;
    default:
      return "UPDATE OR REPLACE " + table + " SET " + std::string(column.name) + " = " +
             literal(random, column.type) + some;
  }
}

}  // namespace

std::string mutated(std::string_view input, std::size_t most, Random& random) {
  constexpr std::size_t kVersions = 18;  // where the header says that there is a log beside the file
  if (input.size() < 512 || fuzz::once_in(random, 4)) return fuzz::mutate_bytes(input, most);
  sqlite3* opened = nullptr;
  if (sqlite3_open(":memory:", &opened) != SQLITE_OK) return std::string(input);
  const std::unique_ptr<sqlite3, decltype(&sqlite3_close)> database(opened, &sqlite3_close);
  auto* bytes = static_cast<unsigned char*>(sqlite3_malloc64(input.size()));
  fuzz::put(input, bytes, input.size());
  const bool logged = bytes[kVersions] == 2;
  // A database in memory has no log.
  bytes[kVersions] = bytes[kVersions + 1] = 1;
  sqlite3_deserialize(opened, "main", bytes, static_cast<sqlite3_int64>(input.size()),
                      static_cast<sqlite3_int64>(input.size()),
                      SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE);
  sqlite3_exec(opened, "PRAGMA writable_schema = ON", nullptr, nullptr, nullptr);
  do sqlite3_exec(opened, statement(random).c_str(), nullptr, nullptr, nullptr);
  while (fuzz::once_in(random, 2));
  sqlite3_int64 size = 0;
  unsigned char* written = sqlite3_serialize(opened, "main", &size, 0);
  if (written == nullptr) return fuzz::mutate_bytes(input, most);
  std::string result(reinterpret_cast<const char*>(written), static_cast<std::size_t>(size));
  sqlite3_free(written);
  if (logged != fuzz::once_in(random, 30) && result.size() > kVersions + 1)
    result[kVersions] = result[kVersions + 1] = 2;
  return result;
}
