#include "knapsaq/search/run.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/search/make_space.h"
#include "knapsaq/search/run_files.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// More tokens than any model can see.
constexpr std::int64_t kLongestWindow = std::int64_t{1} << 30;

// Names in the archive's `about`.
constexpr std::string_view kSettings = "settings";
constexpr std::string_view kModelFolder = "model folder";
constexpr std::string_view kBankFolder = "bank folder";
constexpr std::string_view kTokens = " tokens";  // behind the set's name
constexpr std::string_view kReferenceLoss = " loss of the full-precision model";

std::string bytes_of(const TokenSet& set) {
  const auto bytes = std::as_bytes(std::span(set.tokens));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::int32_t> tokens_of(std::string_view bytes) {
  std::vector<std::int32_t> tokens(bytes.size() / sizeof(std::int32_t));
  if (!tokens.empty()) std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(std::int32_t));
  return tokens;
}

std::string_view name_of(Precision precision) { return precision == Precision::fp32 ? "fp32" : "bf16"; }

// Of what two runs in one folder have to agree in; words for people.
constexpr const char* kTokensKey = "tokens";
constexpr const char* kHeldOutKey = "held-out tokens";

/// What two runs in one folder have to agree in, but for what a bank says.
nlohmann::ordered_json describe(const RunSettings& settings) {
  return {{"model", settings.model},
          {"ties", settings.ties},
          {"pins", settings.pins},
          {"engine", settings.engine},
          {"dense", settings.dense},
          {"kept", settings.kept},
          {"divergence", name_of(settings.divergence)},
          {"precision", name_of(settings.precision)},
          {"text", settings.text},
          {"window", settings.search.length},
          {kTokensKey, hash_hex(bytes_of(settings.search))},
          {kHeldOutKey, hash_hex(bytes_of(settings.heldout))}};
}

/// All of it.
nlohmann::ordered_json describe(const RunSettings& settings, const Bank& bank, const SearchSpace& space) {
  nlohmann::ordered_json all = {
      {"model", settings.model}, {"menu", bank.index().menu.name}, {"bank", hash_hex(to_json(bank.index()))}};
  all.update(describe(settings));
  all["search space"] = space.identity();
  return all;
}

/// The settings that describe() wrote, without the token sets' tokens.
RunSettings parse_settings(std::string_view text) {
  RunSettings settings;
  try {
    const nlohmann::json json = parse_json(text);
    settings.model = json.at("model").get<std::string>();
    settings.text = json.at("text").get<std::string>();
    settings.ties = json.at("ties").get<std::string>();
    settings.pins = json.at("pins").get<std::vector<std::string>>();
    // Runs of version 0.1 do not say it: there was nothing to keep.
    if (json.contains("engine")) settings.engine = json["engine"].get<std::string>();
    if (json.contains("dense")) settings.dense = json["dense"].get<std::vector<std::string>>();
    if (json.contains("kept")) settings.kept = json["kept"].get<std::vector<std::string>>();
    settings.divergence = parse_divergence(json.at("divergence").get<std::string>());
    settings.precision =
        json.at("precision").get<std::string>() == "fp32" ? Precision::fp32 : Precision::bf16;
    settings.search.length = settings.heldout.length =
        whole_number(json.at("window"), "window", 2, kLongestWindow);
  } catch (const nlohmann::json::exception& error) {
    throw InputError(fmt::format("its settings cannot be read: {}", json_reason(error)));
  }
  return settings;
}

}  // namespace

bool has_run(const fs::path& folder) {
  if (!fs::exists(folder / kArchiveName)) return false;
  try {
    return Archive::open(folder / kArchiveName).about(kSettings).has_value();
  } catch (const EmptyArchive&) {
    return false;
  }
}

Run::Run(fs::path folder, fs::path model, const fs::path& bank, RunSettings settings)
    : folder_(std::move(folder)), model_(std::move(model)), settings_(std::move(settings)) {
  checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(model_, Checkpoint::As::dense));
  config_ = parse_model_config(checkpoint_->config());
  bank_ = std::make_unique<Bank>(Bank::open(bank));
  bank_->check_model(settings_.model, config_);
  const ErrorTable table = without(bank_->table(), settings_.dense);
  std::vector<Pin> pins;
  for (const std::string& pin : settings_.pins) pins.push_back(parse_pin(pin));
  space_ = make_space(table, settings_.ties, pins, usual_cost(table),
                      output_sizes(settings_.engine, *checkpoint_, config_, table, {.kept = settings_.kept}));
}

std::string model_name_of(const Checkpoint& model) {
  const fs::path place = fs::weakly_canonical(model.folder());
  return (fs::is_directory(place) ? place.filename() : place.stem()).string();
}

std::shared_ptr<const FileSizes> output_sizes(const std::string& engine, const Checkpoint& model,
                                              const ModelConfig& config, const ErrorTable& table,
                                              const WriteOptions& options) {
  if (engine.empty()) return quantized_file_sizes(model, config, table, options);
  return writer(find_engine(engine).format).file_sizes(model, config, table, options, model_name_of(model));
}

std::string Run::model_name() const { return model_name_of(*checkpoint_); }

void Run::take(Archive archive) {
  archive_ = std::move(archive);
  archive_->expect(space_);
}

namespace {

/// Throws UsageError, saying what is different, unless the archive was made with these settings.
void require_same(std::string_view known, const nlohmann::ordered_json& wanted, const fs::path& folder) {
  nlohmann::json there;
  try {
    there = parse_json(known);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", (folder / kArchiveName).string(), error.what()));
  }
  for (const char* key : {"dense", "kept"})
    if (!there.contains(key)) there[key] = nlohmann::json::array();
  if (!there.contains("engine")) there["engine"] = "";
  for (const auto& [key, value] : wanted.items())
    if (!there.contains(key) || there[key] != nlohmann::json(value))
      throw UsageError(
          fmt::format("{}: holds a run with another {}; give another --run folder, or what "
                      "that run was started with",
                      folder.string(), key));
}

}  // namespace

void Run::check_place(const fs::path& folder) {
  if (!fs::exists(folder) || fs::exists(folder / kArchiveName)) return;
  if (!fs::is_directory(folder))
    throw UsageError(fmt::format("{}: is not a folder: give another name", folder.string()));
  // Stopped before its search began, a run has a bank, or what a lock, SQLite and a page that follows it
  // leave.
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name != kRunBankName && !name.starts_with(kArchiveName) && !is_watch_file(name))
      throw UsageError(fmt::format("{}: exists and holds no run: give the name of a run or of a new folder",
                                   folder.string()));
  }
}

namespace {

/// A bank in the run's folder moves with it; others are where they are.
std::string place_of_bank(const fs::path& folder, const fs::path& bank) {
  const fs::path inside = fs::absolute(bank).lexically_relative(fs::absolute(folder));
  const bool is_inside = !inside.empty() && *inside.begin() != "..";
  return is_inside ? inside.string() : fs::absolute(bank).lexically_normal().string();
}

}  // namespace

void Run::check(const fs::path& folder, const RunSettings& settings, const fs::path& bank) {
  if (!has_run(folder)) return;
  const Archive archive = Archive::open(folder / kArchiveName);
  nlohmann::ordered_json wanted = describe(settings);
  if (settings.search.tokens.empty())
    for (const char* key : {kTokensKey, kHeldOutKey}) wanted.erase(key);
  require_same(*archive.about(kSettings), wanted, folder);
  const std::optional<std::string> place = archive.about(kBankFolder);
  std::error_code ignored;
  if (place && *place != place_of_bank(folder, bank) && !fs::exists(bank, ignored))
    throw UsageError(
        fmt::format("{}: holds a run with another bank: give it with --bank {}, or give another --run folder",
                    folder.string(), *place));
}

Run Run::create(const fs::path& folder, const fs::path& model, const fs::path& bank,
                const RunSettings& settings) {
  Run run(folder, model, bank, settings);
  const nlohmann::ordered_json wanted = describe(run.settings_, *run.bank_, run.space_);
  // Whatever is refused is refused before the archive is opened for writing, which may change it.
  if (has_run(folder)) require_same(*Archive::open(folder / kArchiveName).about(kSettings), wanted, folder);
  const MadeFolder made(folder);
  run.take(Archive::create(folder / kArchiveName));
  Archive& archive = run.archive();
  if (const auto known = archive.about(kSettings)) {
    require_same(*known, wanted, folder);
  } else {
    for (const auto& [name, set] :
         {std::pair{kSearchSet, &settings.search}, {kHeldOutSet, &settings.heldout}})
      archive.set_about(fmt::format("{}{}", name, kTokens), bytes_of(*set));
    // Last: a run with settings has everything else.
    archive.set_about(kSettings, wanted.dump());
  }
  archive.set_about(kModelFolder, fs::absolute(model).lexically_normal().string());
  archive.set_about(kBankFolder, place_of_bank(folder, bank));
  return run;
}

namespace {

/// An archive's text, or a line that says that the run is not complete.
std::string required(const Archive& archive, const fs::path& folder, std::string_view name) {
  const auto text = archive.about(name);
  if (!text)
    throw InputError(
        fmt::format("{}: the run has no {}; it was stopped before its search began: start it again",
                    folder.string(), name));
  return *text;
}

Archive open_archive(const fs::path& folder, Access access) {
  if (!has_run(folder))
    throw UsageError(fmt::format("{}: holds no run: `knapsaq search MODEL --run {}` starts one",
                                 folder.string(), folder.string()));
  const fs::path path = folder / kArchiveName;
  if (access == Access::read) return Archive::open(path);
  try {
    return Archive::create(path);
  } catch (const IoError&) {
    if (access == Access::write) throw;
    return Archive::open(path);
  }
}

/// What the archive says that the run is of, token sets and all.
RunSettings read_settings(const Archive& archive, const fs::path& folder) {
  const std::string text = required(archive, folder, kSettings);
  RunSettings settings;
  try {
    settings = parse_settings(text);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", folder.string(), error.what()));
  }
  for (const auto& [name, set] :
       {std::pair{kSearchSet, &settings.search}, {kHeldOutSet, &settings.heldout}}) {
    const std::string bytes = required(archive, folder, fmt::format("{}{}", name, kTokens));
    set->tokens = tokens_of(bytes);
    if (bytes.empty() || bytes.size() % sizeof(std::int32_t) != 0 ||
        std::ssize(set->tokens) % set->length != 0)
      throw InputError(fmt::format("{}: its {} tokens are not whole windows", folder.string(), name));
  }
  return settings;
}

}  // namespace

RunSettings read_run_settings(const fs::path& folder) {
  return read_settings(open_archive(folder, Access::read), folder);
}

std::vector<SearchRecord> read_searches(const fs::path& folder) {
  return open_archive(folder, Access::read).searches();
}

Run Run::open(const fs::path& folder, Access access, const fs::path& model) {
  Archive archive = open_archive(folder, access);
  RunSettings settings = read_settings(archive, folder);
  const fs::path place = model.empty() ? fs::path(required(archive, folder, kModelFolder)) : model;
  const fs::path bank = folder / required(archive, folder, kBankFolder);  // absolute ones stay as they are
  if (!fs::exists(place))
    throw UsageError(fmt::format("{}: the model of {} is not there: say with --model where it is",
                                 place.string(), folder.string()));
  // Reading a model whole costs less than measuring with it, and more than looking at a front.
  if (access != Access::read && fingerprint(Checkpoint::open(place)) != settings.model)
    throw UsageError(fmt::format("{}: is not the model that {} was made of: give that one", place.string(),
                                 folder.string()));
  Run run(folder, place, bank, std::move(settings));
  require_same(required(archive, folder, kSettings), describe(run.settings_, *run.bank_, run.space_), folder);
  run.take(std::move(archive));
  return run;
}

std::optional<double> Run::reference_loss(std::string_view set) const {
  const auto known = archive_->about(fmt::format("{}{}", set, kReferenceLoss));
  if (!known) return std::nullopt;
  double loss = 0;
  const auto [end, error] = std::from_chars(known->data(), known->data() + known->size(), loss);
  if (error != std::errc() || end != known->data() + known->size() || !std::isfinite(loss))
    throw InputError(fmt::format("{}: its{} is {}, not a number: the full model is broken, or the archive is",
                                 folder_.string(), kReferenceLoss, in_quotes(*known)));
  return loss;
}

std::optional<double> Run::reference_loss(std::string_view set, Evaluator* evaluator) {
  if (const auto known = std::as_const(*this).reference_loss(set)) return known;
  if (evaluator == nullptr) return std::nullopt;
  const double loss = evaluator->reference({0, evaluator->windows()}).loss;
  if (archive_->writable())
    archive_->set_about(fmt::format("{}{}", set, kReferenceLoss), fmt::format("{}", loss));
  return loss;
}

}  // namespace knapsaq
