#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/cost.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// What one matrix loses and takes in one scheme.
struct ErrorCell {
  Scheme scheme;     ///< in which the linear is stored
  double fnorm = 0;  ///< || W - Q(W) ||_F
  std::uint64_t bytes =
      0;  ///< exact when we made the table; memmb * 2^20 when it came from a file without bytes
  double relative = kUnknown;  ///< || W - Q(W) ||_F / || W ||_F
  double hessian = kUnknown;   ///< tr((W - Q(W)) H (W - Q(W))^T), H = X^T X / tokens: mean squared change of
                               ///< the matrix's output per token; 0 for what is only looked up
  double lookup = 0;  ///< mean squared change of what an embedding gives per token; 0 for other matrices

  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
};

double cost_of(const ErrorCell& cell, Cost cost);

/// What the paper plots of each weight matrix (MXQ Fig. 2).
struct WeightStatistics {
  double kurtosis = 0;         ///< Pearson's (3 for a normal distribution)
  double percentiles[5] = {};  ///< 0, 99, 99.9, 99.99, 100 % of |w|
};

struct ErrorRow {
  std::int64_t layer = 0;  ///< -1 for embedding and head
  std::string module;      ///< "self_attn.q_proj", "lm_head"
  std::string name;        ///< full module path; "layer.module" if the table does not know it
  bool tied = false;       ///< an embedding that is the output head too; tables from files do not say it
  std::int64_t parameters = 0;
  WeightStatistics statistics;
  bool has_statistics = false;
  std::vector<ErrorCell> cells;  ///< one for each of `menu`, in its order
};

/// MXQ's matrices F and S: every matrix by every scheme of a menu. A cell's own scheme is the menu's, or what
/// takes its place where the menu's cannot hold the linear (fitting() of quant/scheme.h); so it may occur
/// twice in a row.
struct ErrorTable {
  std::vector<Scheme> menu;
  std::vector<ErrorRow> rows;
};

/// The error that predicts a model's damage best among those that the table knows for all its linears: what a
/// search takes when nobody says otherwise.
Cost usual_cost(const ErrorTable& table);

/// Quantizes each of `matrices` by every scheme and keeps only the numbers. At most one linear's
/// weights (as floats), one packed form and its file pages are in memory at a time. Throws UsageError for
/// methods that need statistics of the inputs: their tables come from a bank.
ErrorTable build_error_table(const Checkpoint& checkpoint, std::span<const Matrix> matrices, const Menu& menu,
                             Progress& progress = Progress::none());

/// CSV with the columns of the MXQ authors' tables
/// (layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params) and ours after them, among them `scheme`,
/// which counts in the place of the four numbers where it is given, and `choice`, the scheme of the menu that
/// the row's scheme takes the place of. Reading accepts any order of columns and of rows and ignores unknown
/// columns; it throws InputError naming the line for a bad number, and naming linear and scheme for a missing
/// or doubled cell.
void write_csv(const ErrorTable& table, const std::filesystem::path& path);
/// Whether a file that begins like this was written by write_csv(): MXQ's own tables have fewer columns.
bool is_error_csv(std::string_view beginning);
ErrorTable read_csv(const std::filesystem::path& path);
ErrorTable parse_csv(std::string_view text, std::string_view source);

}  // namespace knapsaq
