#include "knapsaq/bank/bank_folder.h"

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

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

/// Whether this is what a killed process leaves of the file `name`: AtomicFile's "<name>.partial-<digits>".
bool is_partial(const fs::directory_entry& entry, std::string_view name) {
  constexpr std::string_view kEnding = ".partial-";
  const std::string there = entry.path().filename().string();
  if (!there.starts_with(name) || !std::string_view(there).substr(name.size()).starts_with(kEnding))
    return false;
  const std::string_view digits = std::string_view(there).substr(name.size() + kEnding.size());
  return !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos &&
         fs::is_regular_file(entry.symlink_status());
}

bool is_partial_of_bank(const fs::directory_entry& entry) {
  return is_partial(entry, kBankIndexName) || is_partial(entry, kBankFoldingName);
}

template <class Predicate>
void remove_if(const fs::path& folder, Predicate&& predicate) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (predicate(entry)) found.push_back(entry.path());
  for (const fs::path& path : found) fs::remove(path);
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

BankFolder::BankFolder(fs::path path)
    : is_new_(!fs::exists(path)), path_(made(std::move(path))), lock_(path_) {
  // Nothing is removed before it is known that this is a bank. A folder in which calibration or the search
  // for a folding was interrupted has nothing else yet.
  if (!is_begun()) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path_))
      if (entry.path() != calibration() && entry.path() != folding() && !is_partial_of_bank(entry))
        throw UsageError(fmt::format(
            "{}: exists and is not a bank: give the name of a bank or of a new folder", path_.string()));
  }
  remove_if(path_, is_partial_of_bank);
}

BankFolder::~BankFolder() {
  if (!is_new_) return;
  std::error_code not_empty;
  fs::remove(path_, not_empty);
}

bool BankFolder::is_begun() const { return read_index(path_).has_value(); }

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
  } else {
    write_file(path_ / kBankIndexName, to_json(index));
  }
  const fs::path linears = made(path_ / "linears");
  std::set<std::string> names;
  for (const BankedLinear& linear : index.linears) names.insert(file_of(linear).filename().string());
  remove_if(linears, [&](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    const auto found = names.find(name.substr(0, name.rfind(".partial-")));
    return found != names.end() && is_partial(entry, *found);
  });
}

}  // namespace knapsaq
