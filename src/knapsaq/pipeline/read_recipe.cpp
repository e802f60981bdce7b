#include "knapsaq/pipeline/read_recipe.h"

#include <optional>
#include <string>

#include <fmt/core.h>

#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/export/gguf/recipe.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/text/regex.h"

namespace knapsaq {
namespace {

bool is_found(const Regex& pattern, const std::string& name, RegexScratch& scratch) {
  bool found = false;
  pattern.split(name, scratch, [&](std::size_t, std::size_t, bool is_match) { found = found || is_match; });
  return found;
}

}  // namespace

std::vector<MatrixScheme> read_recipe(const std::filesystem::path& path, std::string_view text,
                                      const ModelConfig& config) {
  const auto wrong = [&](const std::string& what) {
    return InputError(fmt::format("{}: {}", path.string(), what));
  };
  std::vector<RecipeEntry> entries;
  std::vector<Regex> patterns;
  try {
    entries = parse_recipe(text);
  } catch (const InputError& error) {
    throw wrong(error.what());
  }
  for (const RecipeEntry& entry : entries) {
    try {
      patterns.emplace_back(entry.pattern, path.string());
    } catch (const InputError&) {
      throw wrong(fmt::format("the pattern {} is not one that Knapsaq reads, or it matches the empty text",
                              in_quotes(entry.pattern)));
    }
  }

  RegexScratch scratch;
  std::vector<bool> used(entries.size());
  /// The first entry for a tensor; all that match it are used.
  const auto entry_for = [&](const std::string& name) {
    std::optional<std::size_t> first;
    for (std::size_t i = 0; !name.empty() && i < entries.size(); ++i) {
      if (first && used[i]) continue;
      if (!is_found(patterns[i], name, scratch)) continue;
      used[i] = true;
      if (!first) first = i;
    }
    return first;
  };
  const GgufNames names(config);
  std::vector<MatrixScheme> result;
  for (const Matrix& matrix : matrices(config)) {
    const std::string name = names.tensor(matrix.name + ".weight").value_or("");
    const auto entry = entry_for(name);
    if (!entry) {
      if (!matrix.in_block()) continue;
      if (name.empty())
        throw wrong(
            fmt::format("it is a recipe for another model: GGUF has no name for this one's {}", matrix.name));
      throw wrong(fmt::format(
          "no entry names {}, a tensor of the model: it is a recipe for another model, or leaves "
          "that to llama-quantize's own choice; end it with an entry for the rest, as weight=q4_k",
          name));
    }
    if (const auto* type = std::get_if<GgmlType>(&entries[*entry].type))
      result.push_back({matrix, scheme_for(matrix, parse_scheme(info(*type).name))});
  }
  // What is not a matrix, or not one of its own, may be named: llama-quantize leaves it as it is.
  for (const ExpectedTensor& tensor : dense_tensors(config))
    static_cast<void>(entry_for(names.tensor(tensor.name).value_or("")));
  static_cast<void>(entry_for("output.weight"));
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (!used[i])
      throw wrong(fmt::format("the entry {} names no tensor of the model: it is a recipe for another model",
                              in_quotes(entries[i].pattern)));
  if (result.empty()) throw wrong("leaves every matrix of the model dense");
  return result;
}

}  // namespace knapsaq
