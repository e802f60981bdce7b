#include "knapsaq/bank/bank_folder.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Whether this is a killed process's remainder of the file `name`: AtomicFile's "<name>.partial-<digits>".
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

void check_bank_place(const fs::path& path) {
  if (!fs::exists(path) || read_index(path)) return;
  // A folder in which a calibration or the search for a folding was interrupted contains nothing else yet.
  for (const fs::directory_entry& entry : fs::directory_iterator(path))
    if (entry.path().filename() != kBankCalibrationName && entry.path().filename() != kBankFoldingName &&
        !is_partial_of_bank(entry))
      throw UsageError(fmt::format("{}: exists and is not a bank: give the name of a bank or of a new folder",
                                   path.string()));
}

BankFolder::BankFolder(const fs::path& path) : folder_(path), lock_(this->path()) {
  // Nothing is removed before it is known that this is a bank.
  check_bank_place(this->path());
  remove_if(this->path(), is_partial_of_bank);
}

bool BankFolder::is_begun() const { return read_index(path()).has_value(); }

bool BankFolder::has_fisher() const {
  const std::optional<BankIndex> old = read_index(path());
  return old && old->fisher;
}

void BankFolder::check(std::string_view model, const Menu& menu) const {
  const std::optional<BankIndex> old = read_index(path());
  if (!old) return;
  if (old->model != model)
    throw UsageError(fmt::format("{}: is the bank of another model: give another folder, or remove this one",
                                 path().string()));
  if (old->menu.schemes != menu.schemes)
    throw UsageError(fmt::format("{}: was begun with another menu ({}): give the same, or another folder",
                                 path().string(), old->menu.name));
}

void BankFolder::check_matrices(std::span<const Matrix> matrices) const {
  const std::optional<BankIndex> old = read_index(path());
  const auto name = [](const BankedLinear& banked) -> const std::string& { return banked.linear.name; };
  if (old && !std::ranges::equal(old->linears, matrices, {}, name, &Matrix::name))
    throw UsageError(
        fmt::format("{}: was begun with other matrices ({} there, {} here; banks of version 0.1 are without "
                    "embedding and head): give the same --keep, or another folder",
                    path().string(), old->linears.size(), matrices.size()));
}

void BankFolder::check_inputs(const std::string& identity) const {
  const std::optional<BankIndex> old = read_index(path());
  if (old && old->inputs != identity)
    throw UsageError(fmt::format(
        "{}: was begun with other statistics of the inputs ({} there, {} here): give the "
        "same, or another folder",
        path().string(), old->inputs.empty() ? "none" : old->inputs, identity.empty() ? "none" : identity));
}

void BankFolder::check_folding(const std::string& identity) const {
  const std::optional<BankIndex> old = read_index(path());
  if (old && old->folding != identity)
    throw UsageError(
        fmt::format("{}: was begun with another folding of scales: give another folder", path().string()));
}

void BankFolder::claim(const BankIndex& index) const {
  check(index.model, index.menu);
  std::vector<Matrix> matrices;
  for (const BankedLinear& banked : index.linears) matrices.push_back(banked.linear);
  check_matrices(matrices);
  check_inputs(index.inputs);
  check_folding(index.folding);
  // Shapes follow from the model, and schemes from those and the menu.
  if (!is_begun()) write_file(path() / kBankIndexName, to_json(index));
  const fs::path linears = path() / "linears";
  fs::create_directory(linears);
  std::set<std::string> names;
  for (const BankedLinear& linear : index.linears) names.insert(file_of(linear).filename().string());
  remove_if(linears, [&](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    const auto found = names.find(name.substr(0, name.rfind(".partial-")));
    return found != names.end() && is_partial(entry, *found);
  });
}

}  // namespace knapsaq
