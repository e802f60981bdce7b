#pragma once

#include <filesystem>
#include <functional>

namespace knapsaq {

/// Gives a finished folder a free name. Throws IoError if the system refuses or the name is taken.
void name_folder(const std::filesystem::path& finished, const std::filesystem::path& name);

/// Gives a finished folder the name of another one, in one step if the system can exchange the two (Linux:
/// renameat2, on local file systems). The old folder then has the other's name, and the caller removes it.
/// Elsewhere the old one waits under waiting_name() for that moment; restore_waiting() restores it if the
/// process dies there. Throws IoError if the system refuses; both folders are then unchanged.
void exchange_folders(const std::filesystem::path& finished, const std::filesystem::path& name);

/// Removes a finished folder of Knapsaq, if it exists, under a partial one's name, so that remove_leftovers()
/// recognises the rest if the process dies meanwhile. Reports no errors.
void remove_finished(const std::filesystem::path& path);

/// Removes what dead processes left of `path`: partial outputs, and waiting folders that have been replaced
/// and that `is_ours` accepts.
void remove_waited(const std::filesystem::path& path,
                   const std::function<bool(const std::filesystem::path&)>& is_ours);

}  // namespace knapsaq
