#include "knapsaq/export/gguf/recipe.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";
/// The largest models have some thousand tensors.
constexpr std::size_t kMostEntries = 20'000;

std::string in_small_letters(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

/// A regular expression that only this text matches, and no text that contains it.
std::string pattern_of(std::string_view name) {
  std::string pattern = "^";
  for (const char c : name) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + '$';
}

std::optional<GgufType> parse_type(std::string_view name) {
  const std::string small = in_small_letters(name);
  if (const auto type = parse_ggml_type(small)) return *type;
  for (const DType dense : {DType::F32, DType::F16, DType::BF16})
    if (in_small_letters(name_of(GgufType(dense))) == small) return dense;
  return std::nullopt;
}

}  // namespace

std::string recipe_of(const std::vector<TensorType>& types) {
  std::string text;
  for (const TensorType& one : types)
    text += fmt::format("{}={}\n", pattern_of(one.tensor), in_small_letters(name_of(one.type)));
  return text;
}

bool is_own_recipe(std::string_view beginning) {
  const std::string_view line = beginning.substr(0, beginning.find('\n'));
  return line.starts_with('^') && line.find("\\.weight$=") != std::string_view::npos;
}

std::string file_type_of(const std::vector<TensorType>& types) {
  std::map<GgmlType, std::int64_t> weights;
  for (const TensorType& one : types)
    if (const auto* type = std::get_if<GgmlType>(&one.type)) weights[*type] += one.weights;
  if (weights.empty())
    throw UsageError("no matrix of the model is stored in a type of GGML: there is no recipe to write of it");
  const auto most = std::ranges::max_element(weights, {}, [](const auto& entry) { return entry.second; });
  std::string name(info(most->first).name);
  for (char& c : name)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return name;
}

bool needs_imatrix(const std::vector<TensorType>& types) {
  constexpr std::array<std::string_view, 6> kNeed{"iq3_xxs", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_m", "iq1_s"};
  return std::ranges::any_of(types, [&](const TensorType& one) {
    const auto* type = std::get_if<GgmlType>(&one.type);
    // Those outside the blocks are made without.
    return type != nullptr && one.tensor.starts_with("blk.") &&
           std::ranges::count(kNeed, info(*type).name) > 0;
  });
}

std::vector<RecipeEntry> parse_recipe(std::string_view text) {
  std::vector<RecipeEntry> entries;
  for (;;) {
    const std::size_t begin = text.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) break;
    text.remove_prefix(begin);
    const std::string_view entry = text.substr(0, text.find_first_of(kBlanks));
    text.remove_prefix(entry.size());
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos || equals == 0)
      throw InputError(fmt::format("{} is not an entry of a recipe, as in attn_v=q6_k", in_quotes(entry)));
    const auto type = parse_type(entry.substr(equals + 1));
    if (!type)
      throw InputError(fmt::format("{}: {} is not a type that Knapsaq writes", in_quotes(entry),
                                   in_quotes(entry.substr(equals + 1))));
    if (entries.size() == kMostEntries) throw InputError("has more entries than any model has tensors");
    entries.push_back({in_small_letters(entry.substr(0, equals)), *type});
  }
  if (entries.empty()) throw InputError("is empty");
  return entries;
}

}  // namespace knapsaq
