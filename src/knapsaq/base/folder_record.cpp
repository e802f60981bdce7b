#include "knapsaq/base/folder_record.h"

#include <cstdint>
#include <map>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "knapsaq output";
// A model in ten thousand shards has a record of half a megabyte.
constexpr std::uint64_t kLargestRecord = std::uint64_t{16} << 20;

/// With slashes, of a file in a folder of the folder.
std::string name_in(const fs::path& folder, const fs::directory_entry& entry) {
  return entry.path().lexically_relative(folder).generic_string();
}

/// Nothing if there is no record, or none that can be read.
std::optional<std::map<std::string, std::uint64_t>> read_record(const fs::path& folder) {
  try {
    const nlohmann::json record = parse_json(read_file(folder / kFolderRecordName, kLargestRecord));
    if (record.at("format") != kFormat) return std::nullopt;
    return record.at("files").get<std::map<std::string, std::uint64_t>>();
  } catch (const Error&) {
    return std::nullopt;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

void write_folder_record(const fs::path& folder) {
  std::map<std::string, std::uint64_t> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (!entry.is_directory()) files[name_in(folder, entry)] = entry.file_size();
  const nlohmann::ordered_json record = {{"format", kFormat}, {"files", files}};
  write_file(folder / kFolderRecordName, record.dump(1) + "\n");
}

std::optional<std::string> foreign_in(const fs::path& folder) try {
  if (fs::is_empty(folder)) return std::nullopt;
  const auto record = read_record(folder);
  if (!record)
    return fmt::format("was not written by Knapsaq (it has no {} that says so)", kFolderRecordName);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = name_in(folder, entry);
    if (name == kFolderRecordName) continue;
    if (fs::is_directory(entry.symlink_status())) {
      const auto inside = record->lower_bound(name + "/");
      if (inside != record->end() && inside->first.starts_with(name + "/")) continue;
    }
    const auto written = record->find(name);
    if (written == record->end() || !fs::is_regular_file(entry.symlink_status()))
      return fmt::format("holds {}, which Knapsaq did not write", in_quotes(name));
    if (entry.file_size() != written->second)
      return fmt::format("holds {}, which was changed since Knapsaq wrote it", in_quotes(name));
  }
  return std::nullopt;
} catch (const fs::filesystem_error& error) {
  return "cannot be looked into: " + error.code().message();
}

}  // namespace knapsaq
