#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace knapsaq {

/// Writes FOLDER/NAME-HASH.json, one file for each place `path` of a model called `name`, and replaces the
/// earlier one of that place. Throws IoError.
void keep_file(const std::filesystem::path& folder, const std::string& name,
               const std::filesystem::path& path, std::string_view text);

/// Calls `parse` with the text of every .json of the folder, which need not exist. An InputError that it
/// throws gets the file's name and `remedy`.
void read_kept_files(const std::filesystem::path& folder, std::string_view remedy,
                     const std::function<void(std::string_view text)>& parse);

}  // namespace knapsaq
