#include "knapsaq/bank/bank_index.h"

#include <algorithm>
#include <set>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kFormat = "knapsaq-bank";
/// Incremented by every change after which older banks cannot be read.
constexpr int kVersion = 1;
/// The same for banks with GGML types, whose codes are others since 2: with feedback of errors where the
/// inputs are known, and of their full size where not. Runs measured those of older banks, so these are not
/// completed.
constexpr int kGgmlVersion = 2;
/// Far above any model; the limit bounds the work on hostile files.
constexpr std::int64_t kMostLinears = 1 << 20;
constexpr std::int64_t kMostBlocks = 1 << 20;
constexpr std::int64_t kLargestExtent = std::int64_t{1} << 31;

std::vector<Scheme> parse_schemes(const json& list, std::string_view what) {
  std::vector<Scheme> schemes;
  for (const json& text : list) {
    try {
      schemes.push_back(parse_scheme(text.get<std::string>()));
    } catch (const UsageError& error) {
      throw InputError(fmt::format("{}: {}", what, error.what()));
    }
  }
  if (schemes.empty()) throw InputError(fmt::format("{}: no schemes", what));
  return schemes;
}

ordered_json texts_of(const std::vector<Scheme>& schemes) {
  ordered_json list = ordered_json::array();
  for (const Scheme& scheme : schemes) list.push_back(to_string(scheme));
  return list;
}

/// A module path names a file: it must not lead out of the folder.
bool is_module_path(std::string_view name) {
  constexpr std::size_t kLongest = 200;  // of 255 that file systems have, with the ending
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  };
  return !name.empty() && name.size() <= kLongest && name.front() != '.' && std::ranges::all_of(name, fits);
}

BankedLinear parse_linear(const json& entry, const std::vector<Scheme>& menu) {
  BankedLinear banked;
  Matrix& linear = banked.linear;
  linear.name = entry.at("name").get<std::string>();
  if (!is_module_path(linear.name))
    throw InputError(fmt::format("{} is not the name of a linear", in_quotes(linear.name)));
  linear.block = whole_number(entry.at("block"), "block", -1, kMostBlocks);
  linear.module = entry.at("module").get<std::string>();
  linear.role = role_of(linear.name).value_or(Role::q);  // only the matrices that are looked up matter here
  linear.tied = entry.value("tied", false);
  const json& shape = entry.at("shape");
  if (!shape.is_array() || shape.size() != 2) throw InputError(linear.name + ": shape is not [out, in]");
  linear.out = whole_number(shape[0], "shape", 1, kLargestExtent);
  linear.in = whole_number(shape[1], "shape", 1, kLargestExtent);
  banked.schemes = entry.contains("schemes") ? parse_schemes(entry["schemes"], linear.name) : menu;
  if (banked.schemes.size() != menu.size())
    throw InputError(
        fmt::format("{} has {} schemes for a menu of {}", linear.name, banked.schemes.size(), menu.size()));
  return banked;
}

int version_of(const BankIndex& index) {
  const auto is_ggml = [](const Scheme& scheme) { return ggml_type(scheme).has_value(); };
  return std::ranges::any_of(index.menu.schemes, is_ggml) ? kGgmlVersion : kVersion;
}

[[noreturn]] void refuse_version(const json& version, int wanted) {
  throw InputError(fmt::format("is a bank of version {}, and this Knapsaq reads version {}: build it again",
                               in_quotes(version.dump()), wanted));
}

}  // namespace

std::vector<Scheme> BankedLinear::distinct() const {
  std::vector<Scheme> once;
  for (const Scheme& scheme : schemes)
    if (std::ranges::find(once, scheme) == once.end()) once.push_back(scheme);
  return once;
}

std::string BankIndex::key(const BankedLinear& banked) const {
  Hasher hasher;
  for (const std::string& part :
       {std::string(kFormat), std::to_string(version_of(*this)), model, inputs, folding, banked.linear.name,
        fmt::format("{}x{}", banked.linear.out, banked.linear.in), texts_of(banked.distinct()).dump()})
    hasher.update(std::to_string(part.size()) + ":" + part);
  return hasher.hex();
}

std::filesystem::path file_of(const BankedLinear& linear) {
  return std::filesystem::path("linears") / (linear.linear.name + ".safetensors");
}

std::string to_json(const BankIndex& index) {
  ordered_json linears = ordered_json::array();
  for (const BankedLinear& banked : index.linears) {
    const Matrix& linear = banked.linear;
    ordered_json entry = {{"name", linear.name},
                          {"block", linear.block},
                          {"module", linear.module},
                          {"shape", {linear.out, linear.in}}};
    if (linear.tied) entry["tied"] = true;
    if (banked.schemes != index.menu.schemes) entry["schemes"] = texts_of(banked.schemes);
    linears.push_back(entry);
  }
  ordered_json menu = {{"name", index.menu.name}, {"schemes", texts_of(index.menu.schemes)}};
  if (index.menu.whole_groups) menu["whole_groups"] = true;
  ordered_json value = {{"format", kFormat}, {"version", version_of(index)}, {"model", index.model},
                        {"menu", menu},      {"inputs", index.inputs},       {"folding", index.folding},
                        {"linears", linears}};
  // Only where it is so: an index without is that of earlier versions.
  if (index.fisher) value["fisher"] = true;
  return value.dump(1) + "\n";
}

BankIndex parse_bank_index(std::string_view text) {
  const json value = parse_json(text);
  try {
    if (!value.is_object() || value.value("format", "") != kFormat)
      throw InputError("is not the index of a bank");
    const json& version = value.at("version");
    if (version != kVersion && version != kGgmlVersion) refuse_version(version, kGgmlVersion);
    BankIndex index;
    index.model = value.at("model").get<std::string>();
    index.menu.name = value.at("menu").at("name").get<std::string>();
    index.menu.schemes = parse_schemes(value.at("menu").at("schemes"), "menu");
    index.menu.whole_groups = value.at("menu").value("whole_groups", false);
    index.inputs = value.at("inputs").get<std::string>();
    if (version != version_of(index)) refuse_version(version, version_of(index));
    index.folding = value.at("folding").get<std::string>();
    index.fisher = value.value("fisher", false);
    const json& linears = value.at("linears");
    if (!linears.is_array() || linears.empty() || linears.size() > kMostLinears)
      throw InputError("has no list of linears");
    std::set<std::string> names;
    for (const json& entry : linears) {
      index.linears.push_back(parse_linear(entry, index.menu.schemes));
      if (!names.insert(index.linears.back().linear.name).second)
        throw InputError(index.linears.back().linear.name + " is there twice");
    }
    return index;
  } catch (const json::exception& error) {
    throw InputError("is not the index of a bank: " + json_reason(error));
  }
}

}  // namespace knapsaq
