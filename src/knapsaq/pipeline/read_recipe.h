#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// The schemes that a recipe of llama-quantize's (export/gguf/recipe.h) gives to the matrices of a model, in
/// their order: of entries that match a tensor's name the first decides, and a type that cannot hold a row
/// becomes scheme_for(). A matrix that gets a dense type, and an embedding or head that no entry names, stay
/// dense. `text` is the content of `path`. Throws InputError naming the file and what does not fit: an entry
/// that names no tensor of the model, and a linear that no entry names, are of a recipe for another model.
std::vector<MatrixScheme> read_recipe(const std::filesystem::path& path, std::string_view text,
                                      const ModelConfig& config);

}  // namespace knapsaq
