#pragma once

#include <filesystem>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/search/mxq.h"

namespace knapsaq::command {

/// [{"linear": "model.layers.0.self_attn.q_proj", "scheme": "hqq:b3g64/m8g128"}, ..]: the `allocation` that
/// `allocate --json` prints and `quantize --allocation` reads.
nlohmann::ordered_json allocation_json(const ErrorTable& table, const Allocation& allocation);

/// One scheme for each linear of the model, and for embedding and head if they are named, in their order. A
/// name also fits without the prefix that tables made by others leave out ("0.self_attn.q_proj"). Throws
/// InputError naming file and linear for what is missing, unknown or named twice.
std::vector<MatrixScheme> read_allocation(const std::filesystem::path& path,
                                          const std::vector<Matrix>& matrices);

}  // namespace knapsaq::command
