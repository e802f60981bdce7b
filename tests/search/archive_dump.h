#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "knapsaq/search/sqlite.h"

namespace knapsaq {

/// All that an archive holds but for the seconds that measurements took, row by row in the order of their
/// numbers.
inline std::vector<std::string> dump(const std::filesystem::path& path) {
  static constexpr const char* kQueries[] = {
      "SELECT 'about|' || quote(name) || quote(value) FROM about ORDER BY rowid",
      "SELECT 'measurement|' || id || '|' || token_set || '|' || quote(point) || '|' || windows || '|' || "
      "tokens || '|' || quote(kl) || '|' || quote(jsd) || '|' || quote(loss) || '|' || quote(agreement) || "
      "'|' || quote(per_token) FROM measurement ORDER BY id",
      "SELECT 'search|' || id || '|' || strategy || '|' || options || '|' || seed || '|' || finished FROM "
      "search ORDER BY id",
      "SELECT 'step|' || search || '|' || ordinal || '|' || batch || '|' || phase || '|' || measurement || "
      "'|' || quote(predicted) || '|' || quote(cost) FROM step ORDER BY search, ordinal",
      "SELECT 'note|' || search || '|' || batch || '|' || row || '|' || field || '|' || kind || '|' || name "
      "|| '|' || quote(value) FROM note ORDER BY search, batch, row, field",
      "SELECT 'integrity|' || integrity_check FROM pragma_integrity_check",
  };
  std::vector<std::string> rows;
  const Database database(path, Database::Mode::read);
  for (const char* sql : kQueries) {
    Query query(database, sql);
    while (query.next()) rows.push_back(query.text(0));
  }
  return rows;
}

}  // namespace knapsaq
