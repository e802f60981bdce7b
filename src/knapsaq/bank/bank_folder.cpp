#include "knapsaq/bank/bank_folder.h"

#include <optional>
#include <string>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

fs::path made(fs::path path) {
  if (!path.has_filename()) path = path.parent_path();
  std::error_code status;
  fs::create_directory(path, status);
  if (status || !fs::is_directory(path))
    throw IoError(fmt::format("{}: cannot create the folder: {}", path.string(),
                              status ? status.message() : "there is a file of this name"));
  return path;
}

/// What was begun when an earlier process was killed; the lock says that nobody is writing it any more.
void remove_partial_files(const fs::path& folder) {
  if (!fs::is_directory(folder)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().find(".partial-") != std::string::npos) fs::remove_all(entry.path());
}

std::optional<BankIndex> read_index(const fs::path& folder) {
  const fs::path path = folder / kBankIndexName;
  if (!fs::exists(path)) return std::nullopt;
  try {
    return parse_bank_index(read_file(path));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace

BankFolder::BankFolder(fs::path path) : path_(made(std::move(path))), lock_(path_) {
  remove_partial_files(path_);
  remove_partial_files(path_ / "linears");
  if (fs::exists(path_ / kBankIndexName)) return;
  // A folder in which calibration or the search for a folding was interrupted has nothing else yet.
  for (const fs::directory_entry& entry : fs::directory_iterator(path_))
    if (entry.path() != calibration() && entry.path() != folding())
      throw UsageError(fmt::format("{}: exists and is not a bank: give the name of a bank or of a new folder",
                                   path_.string()));
}

void BankFolder::check(std::string_view model, const Menu& menu) const {
  const std::optional<BankIndex> old = read_index(path_);
  if (!old) return;
  if (old->model != model)
    throw UsageError(fmt::format("{}: is the bank of another model: give another folder, or remove this one",
                                 path_.string()));
  if (old->menu.schemes != menu.schemes)
    throw UsageError(fmt::format("{}: was begun with another menu ({}): give the same, or another folder",
                                 path_.string(), old->menu.name));
}

void BankFolder::claim(const BankIndex& index) const {
  check(index.model, index.menu);
  if (const std::optional<BankIndex> old = read_index(path_)) {
    if (old->inputs != index.inputs)
      throw UsageError(
          fmt::format("{}: was begun with other statistics of the inputs ({} there, {} here): give the "
                      "same, or another folder",
                      path_.string(), old->inputs.empty() ? "none" : old->inputs,
                      index.inputs.empty() ? "none" : index.inputs));
    if (old->folding != index.folding)
      throw UsageError(
          fmt::format("{}: was begun with another folding of scales: give another folder", path_.string()));
    // Names and shapes follow from the model, and schemes from those and the menu.
    return;
  }
  write_file(path_ / kBankIndexName, to_json(index));
  fs::create_directory(path_ / "linears");
}

}  // namespace knapsaq
