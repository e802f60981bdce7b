#include "knapsaq/bank/bank.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

namespace fs = std::filesystem;

Bank Bank::open(const fs::path& folder) {
  Bank bank;
  bank.folder_ = folder;
  const fs::path index = folder / kBankIndexName;
  if (!fs::exists(index))
    throw InputError(fmt::format("{}: not a bank: it has no {}", folder.string(), kBankIndexName));
  try {
    bank.index_ = parse_bank_index(read_file(index));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", index.string(), error.what()));
  }
  const std::vector<BankedLinear>& linears = bank.index_.linears;
  const auto missing = std::ranges::count_if(
      linears, [&](const BankedLinear& banked) { return !fs::exists(folder / file_of(banked)); });
  if (missing != 0)
    throw InputError(
        fmt::format("{}: {} of its {} linears are missing: run `knapsaq bank` again to finish it",
                    folder.string(), missing, linears.size()));
  for (const BankedLinear& banked : linears) {
    bank.places_.emplace(banked.linear.name, bank.files_.size());
    bank.files_.emplace_back(folder / file_of(banked), layout_of(bank.index_, banked));
  }
  return bank;
}

void Bank::check_model(std::string_view fingerprint) const {
  if (index_.model != fingerprint)
    throw InputError(
        fmt::format("{}: was built from another model (fingerprint {}, this one has {}): build a bank "
                    "of this one",
                    folder_.string(), in_quotes(index_.model), in_quotes(std::string(fingerprint))));
}

void Bank::check_model(std::string_view fingerprint, const ModelConfig& config) const {
  check_model(fingerprint);
  const auto fits = [&](const BankedLinear& banked, const Matrix& linear) {
    const Matrix& there = banked.linear;
    return there.name == linear.name && there.block == linear.block && there.module == linear.module &&
           there.out == linear.out && there.in == linear.in &&
           banked.schemes == schemes_for(linear, index_.menu);
  };
  // Some of the model's matrices, in its order; the others were kept as they are stored.
  const std::vector<Matrix> all = matrices(config);
  auto next = all.begin();
  const bool is_of_model = std::ranges::all_of(index_.linears, [&](const BankedLinear& banked) {
    next = std::find_if(next, all.end(), [&](const Matrix& matrix) { return fits(banked, matrix); });
    return next != all.end() && (++next, true);
  });
  if (!is_of_model)
    throw InputError(
        fmt::format("{}: does not list matrices of this model in the menu's schemes: build the "
                    "bank again",
                    (folder_ / kBankIndexName).string()));
}

Folding Bank::folding(const ModelConfig& config) const {
  if (index_.folding.empty()) return {};
  const fs::path path = folder_ / kBankFoldingName;
  Folding folding = Folding::load(path, config, index_.model);
  if (folding.identity() != index_.folding)
    throw InputError(fmt::format("{}: is not the folding that the bank was built on: build the bank again",
                                 path.string()));
  return folding;
}

ErrorTable Bank::table() const {
  ErrorTable table;
  table.menu = index_.menu.schemes;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const BankedLinear& banked = index_.linears[i];
    ErrorRow& row = table.rows.emplace_back();
    row.layer = banked.linear.block;
    row.module = banked.linear.module;
    row.name = banked.linear.name;
    row.tied = banked.linear.tied;
    row.parameters = banked.linear.parameters();
    row.statistics = files_[i].statistics();
    row.has_statistics = true;
    for (const Scheme& scheme : banked.schemes) {
      const LocalErrors& known = errors(banked.linear.name, scheme);
      row.cells.push_back({scheme, known.fnorm, storage_bytes(scheme, banked.linear.out, banked.linear.in),
                           known.relative, known.hessian, known.lookup, known.fisher});
    }
  }
  return table;
}

StoredMatrix Bank::matrix(std::string_view linear, const Scheme& scheme) const {
  const Place place = find(linear, scheme);
  return place.file->matrix(place.scheme);
}

const LocalErrors& Bank::errors(std::string_view linear, const Scheme& scheme) const {
  const Place place = find(linear, scheme);
  return place.file->errors(place.scheme);
}

Bank::Place Bank::find(std::string_view linear, const Scheme& scheme) const {
  const auto found = places_.find(linear);
  if (found == places_.end())
    throw UsageError(
        fmt::format("{}: the bank has no linear {}", folder_.string(), in_quotes(std::string(linear))));
  const LinearFile& file = files_[found->second];
  const auto place = std::ranges::find(file.schemes(), scheme);
  if (place == file.schemes().end()) {
    std::vector<std::string> there;
    for (const Scheme& one : file.schemes()) there.push_back(to_string(one));
    throw UsageError(fmt::format("{}: the bank does not hold {} in {}; there are {}", folder_.string(),
                                 linear, to_string(scheme), fmt::join(there, ", ")));
  }
  return {&file, static_cast<std::size_t>(place - file.schemes().begin())};
}

}  // namespace knapsaq
