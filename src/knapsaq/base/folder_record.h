#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace knapsaq {

/// In every folder that Knapsaq writes whole: names and sizes of the files that it wrote there. By it a later
/// command knows what it may replace.
inline constexpr std::string_view kFolderRecordName = "knapsaq.json";

/// Writes the record of the files that are in `folder`.
void write_folder_record(const std::filesystem::path& folder);

/// What is in the folder that Knapsaq did not write, or that was changed since, in words that follow the
/// folder's name: "holds notes.txt, which .."; nothing if all of it is as write_folder_record() saw it, also
/// if the folder is empty.
std::optional<std::string> foreign_in(const std::filesystem::path& folder);

}  // namespace knapsaq
