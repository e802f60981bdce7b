#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace knapsaq {

/// The record in every folder that Knapsaq writes whole: names and sizes of the files that it wrote there. A
/// later command uses it to decide what it may replace.
inline constexpr std::string_view kFolderRecordName = "knapsaq.json";

/// Writes the record of the files that are in `folder`.
void write_folder_record(const std::filesystem::path& folder);

/// Content of the folder that Knapsaq did not write, or that was changed since, in words that follow the
/// folder's name: "holds notes.txt, which .."; nullopt if everything is as write_folder_record() saw it, or
/// the folder is empty.
std::optional<std::string> foreign_in(const std::filesystem::path& folder);

}  // namespace knapsaq
