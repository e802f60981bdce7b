#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/config.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// What one linear loses and takes in one scheme.
struct ErrorCell {
  Scheme scheme;
  double fnorm = 0;  ///< || W - Q(W) ||_F
  std::uint64_t bytes =
      0;  ///< exact when we made the table; memmb * 2^20 when it came from a file without bytes
};

/// What the paper plots of each weight matrix (MXQ Fig. 2).
struct WeightStatistics {
  double kurtosis = 0;         ///< Pearson's (3 for a normal distribution)
  double percentiles[5] = {};  ///< 0, 99, 99.9, 99.99, 100 % of |w|
};

struct ErrorRow {
  std::int64_t layer = 0;
  std::string module;  ///< "self_attn.q_proj"
  std::string name;    ///< full module path; "layer.module" if the table does not know it
  std::int64_t parameters = 0;
  WeightStatistics statistics;
  bool has_statistics = false;
  std::vector<ErrorCell> cells;  ///< in the order of `menu`
};

/// MXQ's matrices F and S: every linear by every scheme. All rows have the same schemes in the same order.
struct ErrorTable {
  std::vector<Scheme> menu;
  std::vector<ErrorRow> rows;
};

/// Quantizes every linear of the checkpoint by every scheme and keeps only the numbers. At most one linear's
/// weights (as floats), its packed forms and its file pages are in memory at a time.
ErrorTable build_error_table(const Checkpoint& checkpoint, const ModelConfig& config, const Menu& menu,
                             Progress& progress = Progress::none());

/// CSV with the columns of the MXQ authors' tables
/// (layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params) and ours after them. Reading accepts any order
/// of columns and of rows and ignores unknown columns; it throws InputError naming the line for a bad number,
/// and naming linear and scheme for a missing or doubled cell.
void write_csv(const ErrorTable& table, const std::filesystem::path& path);
ErrorTable read_csv(const std::filesystem::path& path);
ErrorTable parse_csv(std::string_view text, std::string_view source);

}  // namespace knapsaq
