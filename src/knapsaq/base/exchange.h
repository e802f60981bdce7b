#pragma once

#include <filesystem>
#include <functional>

namespace knapsaq {

/// Gives a finished folder a name that is free. Throws IoError if the system refuses or the name is taken.
void name_folder(const std::filesystem::path& finished, const std::filesystem::path& name);

/// Gives a finished folder the name of another one, in one step where the system can exchange the two (Linux:
/// renameat2, on local file systems): the old one then has the other's name, for the caller to remove.
/// Elsewhere the old one waits under waiting_name() for that moment; restore_waiting() sees to it if the
/// process dies there. Throws IoError if the system refuses; both folders are as they were then.
void exchange_folders(const std::filesystem::path& finished, const std::filesystem::path& name);

/// Removes a finished folder of ours, if it is there, under a partial one's name: whoever dies meanwhile
/// leaves what remove_leftovers() knows. Reports no errors.
void remove_finished(const std::filesystem::path& path);

/// Removes what dead processes left of `path`: partial ones, and folders that waited, are replaced, and for
/// which `is_ours` says that they are.
void remove_waited(const std::filesystem::path& path,
                   const std::function<bool(const std::filesystem::path&)>& is_ours);

}  // namespace knapsaq
