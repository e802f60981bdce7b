#pragma once

#include <filesystem>
#include <vector>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// One scheme for each linear of the model, and for embedding and head if they are named, in their order,
/// from a file: [{"linear": "model.layers.0.self_attn.q_proj", "scheme": "hqq:b3g64/m8g128"}, ..], alone or
/// as the field `allocation` of an object. A name also fits without the prefix that tables made by others
/// leave out ("0.self_attn.q_proj"). A file that is no JSON is a recipe of llama-quantize's (read_recipe()).
/// Throws InputError naming file and linear for what is missing, unknown or named twice.
std::vector<MatrixScheme> read_allocation(const std::filesystem::path& path, const ModelConfig& config);

}  // namespace knapsaq
