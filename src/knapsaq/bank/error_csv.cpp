#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

// The first nine are those of the MXQ authors' tables, in their order.
enum Column : std::size_t {
  kLayer,
  kModule,
  kBits,
  kGroup,
  kMetaBits,
  kMetaGroup,
  kFnorm,
  kMemmb,
  kParams,
  kBytes,
  kLinear,
  kScheme,
  kChoice,
  kRelative,
  kHessian,
  kLookup,
  kFisher,
  kKurtosis,
  kFirstPercentile,
  kColumns = kFirstPercentile + 5
};
constexpr std::array<std::string_view, kColumns> kNames = {
    "layer",  "module",   "nbit1",  "gsize1", "nbit2",   "gsize2",   "fnorm",   "memmb",
    "params", "bytes",    "linear", "scheme", "choice",  "relative", "hessian", "lookup",
    "fisher", "kurtosis", "pct_0",  "pct_99", "pct_999", "pct_9999", "pct_100"};

/// Knapsaq's lines have about 200 characters; a longer line than this is not a table.
constexpr std::size_t kLongestLine = 65536;
/// Sizes and counts up to here are exact as doubles, which the solver works with.
constexpr std::int64_t kLargestCount = std::int64_t{1} << 53;
constexpr double kMebibyte = 1048576;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Lines of a CSV text, and their location for error messages.
class Lines {
 public:
  Lines(std::string_view text, std::string_view source) : rest_(text), source_(source) {
    // Spreadsheets put a byte order mark before UTF-8.
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  /// The fields of the next line that is not empty; false at the end.
  bool next(std::vector<std::string>& fields) {
    while (!rest_.empty()) {
      ++number_;
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      std::string_view line = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.size() > kLongestLine) fail("is too long for a table of errors");
      if (trimmed(line).empty()) continue;
      split(line, fields);
      return true;
    }
    return false;
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw InputError(fmt::format("{}: line {} {}", source_, number_, what));
  }

 private:
  void split(std::string_view line, std::vector<std::string>& fields) const {
    fields.clear();
    for (;;) {
      line = trimmed(line);
      std::string& field = fields.emplace_back();
      if (line.starts_with('"')) {
        line.remove_prefix(1);
        for (;;) {
          const std::size_t quote = line.find('"');
          if (quote == line.npos) fail("has a quote without an end");
          field += line.substr(0, quote);
          line.remove_prefix(quote + 1);
          if (!line.starts_with('"')) break;
          field += '"';
          line.remove_prefix(1);
        }
        line = trimmed(line);
        if (!line.empty() && line.front() != ',') fail("goes on after the end of a quote");
      } else {
        const std::size_t end = std::min(line.find(','), line.size());
        field = trimmed(line.substr(0, end));
        line.remove_prefix(end);
      }
      if (line.empty()) return;
      line.remove_prefix(1);
    }
  }

  std::string_view rest_;
  std::string_view source_;
  std::size_t number_ = 0;
};

/// One line, with its fields by column name.
class Record {
 public:
  explicit Record(Lines& lines) : lines_(lines) {
    if (!lines_.next(fields_)) lines_.fail("is missing: a table begins with the names of its columns");
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      const auto name = std::find(kNames.begin(), kNames.end(), fields_[i]);
      if (name == kNames.end()) continue;
      std::optional<std::size_t>& place = places_[static_cast<std::size_t>(name - kNames.begin())];
      if (place) lines_.fail(fmt::format("names the column {} twice", *name));
      place = i;
    }
    width_ = fields_.size();
    for (std::size_t column = 0; column <= kParams; ++column) {
      // Either size is sufficient.
      if (column == kMemmb && places_[kBytes]) continue;
      if (!places_[column]) {
        lines_.fail(
            fmt::format("has no column {}; a table of errors begins with "
                        "layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params",
                        kNames[column]));
      }
    }
  }

  bool next() {
    if (!lines_.next(fields_)) return false;
    if (fields_.size() != width_) {
      lines_.fail(fmt::format("has {} fields where the first line has {}", fields_.size(), width_));
    }
    return true;
  }

  /// Empty if the table does not have the column.
  const std::string& text(std::size_t column) const {
    static const std::string kEmpty;
    return places_[column] ? fields_[*places_[column]] : kEmpty;
  }

  std::int64_t integer(std::size_t column, std::int64_t least, std::int64_t most) const {
    const std::string& field = text(column);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size() || value < least || value > most) {
      bad(column, fmt::format("an integer from {} to {}", least, most));
    }
    return value;
  }

  double number(std::size_t column, double least, double most = std::numeric_limits<double>::max()) const {
    const std::string& field = text(column);
    double value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size() || !(value >= least && value <= most)) {
      bad(column, least == 0 ? "a number that is not negative" : "a number");
    }
    return value;
  }

  [[noreturn]] void bad(std::size_t column, std::string_view expected) const {
    lines_.fail(fmt::format("has {} in column {}, which is not {}", in_quotes(text(column)), kNames[column],
                            expected));
  }

  [[noreturn]] void fail(std::string_view what) const { lines_.fail(what); }

 private:
  Lines& lines_;
  std::vector<std::string> fields_;
  std::size_t width_ = 0;
  std::array<std::optional<std::size_t>, kColumns> places_;
};

Scheme scheme_in(const Record& record, std::size_t column) {
  try {
    return parse_scheme(record.text(column));
  } catch (const UsageError&) {
    record.bad(column, "a scheme that Knapsaq knows");
  }
}

Scheme scheme_of(const Record& record) {
  if (!record.text(kScheme).empty()) return scheme_in(record, kScheme);
  Scheme scheme;
  constexpr int kMost = 1 << 30;
  scheme.bits = static_cast<int>(record.integer(kBits, 1, 16));
  scheme.group = static_cast<int>(record.integer(kGroup, 0, kMost));
  scheme.meta_bits = static_cast<int>(record.integer(kMetaBits, 1, 16));
  scheme.meta_group = static_cast<int>(record.integer(kMetaGroup, 0, kMost));
  const std::string text = to_string(scheme);
  try {
    if (parse_scheme(text) == scheme) return scheme;
  } catch (const UsageError&) {
  }
  record.fail(fmt::format("has the scheme {}, which Knapsaq does not know", in_quotes(text)));
}

WeightStatistics statistics_of(const Record& record) {
  WeightStatistics statistics;
  statistics.kurtosis = record.number(kKurtosis, std::numeric_limits<double>::lowest());
  for (std::size_t p = 0; p < std::size(statistics.percentiles); ++p) {
    statistics.percentiles[p] = record.number(kFirstPercentile + p, 0);
  }
  return statistics;
}

bool has_statistics(const Record& record) {
  for (std::size_t column = kKurtosis; column < kColumns; ++column) {
    if (record.text(column).empty()) return false;
  }
  return true;
}

std::uint64_t bytes_of(const Record& record) {
  if (!record.text(kBytes).empty())
    return static_cast<std::uint64_t>(record.integer(kBytes, 0, kLargestCount));
  const double mebibytes = record.number(kMemmb, 0, static_cast<double>(kLargestCount) / kMebibyte);
  return static_cast<std::uint64_t>(std::llround(mebibytes * kMebibyte));
}

/// A row whose cells are in the order of the file, each with the index of its scheme in the menu.
struct LooseRow {
  ErrorRow row;
  std::vector<std::pair<std::size_t, ErrorCell>> cells;
};

void put_in_order(LooseRow& loose, const std::vector<Scheme>& menu, std::string_view source) {
  std::stable_sort(loose.cells.begin(), loose.cells.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < std::max(menu.size(), loose.cells.size()); ++i) {
    if (i < loose.cells.size() && loose.cells[i].first == i) {
      loose.row.cells.push_back(std::move(loose.cells[i].second));
      continue;
    }
    const bool twice = i < loose.cells.size() && loose.cells[i].first < i;
    const std::size_t scheme = twice ? loose.cells[i].first : i;
    throw InputError(fmt::format("{}: {} has {} row for {}; every linear needs every scheme once", source,
                                 loose.row.name, twice ? "more than one" : "no", to_string(menu[scheme])));
  }
}

/// The shortest digits that give the same double again, in any locale.
std::string exact(double value) {
  std::array<char, 32> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return {digits.data(), error == std::errc() ? end : digits.data()};
}

std::string known(double value) { return std::isnan(value) ? std::string() : exact(value); }

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\" ") == text.npos) return std::string(text);
  std::string field = "\"";
  for (const char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
  return field + '"';
}

}  // namespace

ErrorTable parse_csv(std::string_view text, std::string_view source) {
  Lines lines(text, source);
  Record record(lines);
  std::vector<Scheme> menu;
  std::unordered_map<std::string, std::size_t> schemes;
  std::vector<LooseRow> rows;
  std::map<std::pair<std::int64_t, std::string>, std::size_t> places;
  while (record.next()) {
    ErrorRow row;
    row.layer = record.integer(kLayer, std::numeric_limits<std::int64_t>::min(), kLargestCount);
    row.module = record.text(kModule);
    if (row.module.empty()) record.bad(kModule, "the name of a linear");
    row.parameters = record.integer(kParams, 1, kLargestCount);
    row.name = record.text(kLinear);
    if (row.name.empty()) row.name = fmt::format("{}.{}", row.layer, row.module);
    row.has_statistics = has_statistics(record);
    if (row.has_statistics) row.statistics = statistics_of(record);

    ErrorCell cell;
    cell.scheme = scheme_of(record);
    cell.fnorm = record.number(kFnorm, 0);
    cell.bytes = bytes_of(record);
    if (!record.text(kRelative).empty()) cell.relative = record.number(kRelative, 0);
    if (!record.text(kHessian).empty()) cell.hessian = record.number(kHessian, 0);
    if (!record.text(kLookup).empty()) cell.lookup = record.number(kLookup, 0);
    if (!record.text(kFisher).empty()) cell.fisher = record.number(kFisher, 0);
    const Scheme choice = record.text(kChoice).empty() ? cell.scheme : scheme_in(record, kChoice);

    const auto [place, is_new] = places.try_emplace({row.layer, row.module}, rows.size());
    if (is_new) {
      rows.push_back({std::move(row), {}});
    } else if (rows[place->second].row.parameters != row.parameters ||
               rows[place->second].row.name != row.name) {
      record.fail(fmt::format("gives {} another name or number of weights than a line before it",
                              in_quotes(rows[place->second].row.name)));
    }
    const auto [scheme, is_new_scheme] = schemes.try_emplace(to_string(choice), menu.size());
    if (is_new_scheme) menu.push_back(choice);
    rows[place->second].cells.emplace_back(scheme->second, std::move(cell));
  }
  if (rows.empty()) throw InputError(fmt::format("{}: the table has no rows", source));

  ErrorTable table;
  table.menu = std::move(menu);
  table.rows.reserve(rows.size());
  for (LooseRow& loose : rows) {
    put_in_order(loose, table.menu, source);
    table.rows.push_back(std::move(loose.row));
  }
  return table;
}

ErrorTable read_csv(const std::filesystem::path& path) { return parse_csv(read_file(path), path.string()); }

bool is_error_csv(std::string_view beginning) {
  // The columns that only Knapsaq's tables have; later ones differ between versions.
  const std::span<const std::string_view> first = std::span(kNames).first(kChoice + 1);
  return beginning.starts_with(fmt::format("{},", fmt::join(first, ",")));
}

void write_csv(const ErrorTable& table, const std::filesystem::path& path) {
  std::string text = fmt::format("{}\n", fmt::join(kNames, ","));
  for (const ErrorRow& row : table.rows) {
    std::string statistics;
    if (row.has_statistics) statistics = exact(row.statistics.kurtosis);
    for (const double percentile : row.statistics.percentiles) {
      statistics += ',';
      if (row.has_statistics) statistics += exact(percentile);
    }
    for (std::size_t c = 0; c < row.cells.size(); ++c) {
      const ErrorCell& cell = row.cells[c];
      const Scheme& scheme = cell.scheme;
      text += fmt::format(
          "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", row.layer, csv_field(row.module),
          scheme.bits, scheme.group, scheme.meta_bits, scheme.meta_group, exact(cell.fnorm),
          exact(static_cast<double>(cell.bytes) / kMebibyte), row.parameters, cell.bytes, csv_field(row.name),
          to_string(scheme), scheme == table.menu[c] ? "" : to_string(table.menu[c]), known(cell.relative),
          known(cell.hessian), cell.lookup == 0 ? "" : exact(cell.lookup), known(cell.fisher), statistics);
    }
  }
  write_file(path, text);
}

}  // namespace knapsaq
