#include "knapsaq/pipeline/read_allocation.h"

#include <map>
#include <optional>
#include <string>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/pipeline/read_recipe.h"

namespace knapsaq {

std::vector<MatrixScheme> read_allocation(const std::filesystem::path& path, const ModelConfig& config) {
  const std::string text = read_file(path);
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  const bool is_json = begin == std::string::npos || text[begin] == '{' || text[begin] == '[';
  if (!is_json) return read_recipe(path, text, config);
  const std::vector<Matrix> matrices = knapsaq::matrices(config);
  const auto wrong = [&](const std::string& what) {
    return InputError(
        fmt::format("{}: {}: give what `knapsaq allocate --json` printed, or a recipe", path.string(), what));
  };
  nlohmann::json list;
  try {
    const nlohmann::json json = parse_json(text);
    list = json.is_object() && json.contains("allocation") ? json["allocation"] : json;
  } catch (const InputError& error) {
    throw wrong(error.what());
  }
  if (!list.is_array()) throw wrong("has no list \"allocation\"");

  std::map<std::string, std::size_t> index_of;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    index_of[matrices[i].name] = i;
    index_of[fmt::format("{}.{}", matrices[i].block, matrices[i].module)] = i;
  }
  std::vector<std::optional<Scheme>> schemes(matrices.size());
  for (const auto& entry : list) {
    if (!entry.is_object() || !entry.contains("linear") || !entry["linear"].is_string() ||
        !entry.contains("scheme") || !entry["scheme"].is_string())
      throw wrong("an entry without \"linear\" and \"scheme\"");
    const std::string name = entry["linear"];
    const auto found = index_of.find(name);
    if (found == index_of.end()) throw wrong(fmt::format("the model has no matrix {}", name));
    if (schemes[found->second]) throw wrong(fmt::format("{} is there twice", name));
    schemes[found->second] = parse_scheme(entry["scheme"].get<std::string>());
  }
  std::vector<MatrixScheme> result;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    if (schemes[i]) {
      result.push_back({matrices[i], *schemes[i]});
    } else if (matrices[i].in_block()) {
      throw wrong(fmt::format("{} has no scheme", matrices[i].name));
    }
  }
  return result;
}

}  // namespace knapsaq
