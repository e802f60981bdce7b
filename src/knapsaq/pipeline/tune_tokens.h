#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "knapsaq/pipeline/session.h"
#include "knapsaq/pipeline/tune.h"

namespace knapsaq {

/// Windows of one length, one after another.
struct TuneTokens {
  std::int64_t window = 0;
  std::vector<std::int32_t> train;
  std::vector<std::int32_t> heldout;
  std::vector<std::int32_t> foreign;  ///< empty: none
};

/// Those that the options ask for. Text of the model's own is kept in `file`, because sampling takes as long
/// as some steps, and read from there where it is what these options give. Throws as search_windows() and
/// self_text().
TuneTokens tune_tokens(Session& full, const TuneOptions& options, const std::filesystem::path& file);

}  // namespace knapsaq
