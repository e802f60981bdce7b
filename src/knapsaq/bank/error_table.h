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

/// Errors and size of one matrix in one scheme.
struct ErrorCell {
  Scheme scheme;     ///< in which the linear is stored
  double fnorm = 0;  ///< || W - Q(W) ||_F
  std::uint64_t bytes =
      0;  ///< exact if Knapsaq made the table; memmb * 2^20 if it came from a file without bytes
  double relative = kUnknown;  ///< || W - Q(W) ||_F / || W ||_F
  double hessian = kUnknown;   ///< tr((W - Q(W)) H (W - Q(W))^T), H = X^T X / tokens: mean squared change of
                               ///< the matrix's output per token; 0 for a matrix that is only looked up
  double lookup = 0;         ///< mean squared change of an embedding's output per token; 0 for other matrices
  double fisher = kUnknown;  ///< divergence that Fisher information predicts, nats per token (LocalErrors)

  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
};

double cost_of(const ErrorCell& cell, Cost cost);

/// The statistics that the paper plots for each weight matrix (MXQ Fig. 2).
struct WeightStatistics {
  double kurtosis = 0;         ///< Pearson's (3 for a normal distribution)
  double percentiles[5] = {};  ///< 0, 99, 99.9, 99.99, 100 % of |w|
};

struct ErrorRow {
  std::int64_t layer = 0;  ///< -1 for embedding and head
  std::string module;      ///< "self_attn.q_proj", "lm_head"
  std::string name;        ///< full module path; "layer.module" if the table does not know it
  bool tied = false;       ///< an embedding that is also the output head; unknown in tables from files
  std::int64_t parameters = 0;
  WeightStatistics statistics;
  bool has_statistics = false;
  std::vector<ErrorCell> cells;  ///< one for each scheme of `menu`, in its order
};

/// MXQ's matrices F and S: every matrix by every scheme of a menu. A cell's own scheme is the menu's, or its
/// replacement if the menu's cannot hold the linear (fitting() of quant/scheme.h); it may therefore occur
/// twice in a row.
struct ErrorTable {
  std::vector<Scheme> menu;
  std::vector<ErrorRow> rows;
};

/// Of the errors that the table has for all its linears, the one that best predicts the increase of a model's
/// divergence: the default of searches.
Cost usual_cost(const ErrorTable& table);

/// Quantizes each of `matrices` by every scheme and keeps only the numbers. At most one linear's weights (as
/// floats), one packed form and its file pages are in memory at a time. Throws UsageError for methods that
/// need statistics of the inputs: their tables come from a bank.
ErrorTable build_error_table(const Checkpoint& checkpoint, std::span<const Matrix> matrices, const Menu& menu,
                             Progress& progress = Progress::none());

/// CSV with the columns of the MXQ authors' tables
/// (layer,module,nbit1,gsize1,nbit2,gsize2,fnorm,memmb,params), followed by Knapsaq's. Two of these are
/// `scheme`, which takes precedence over the four numbers, and `choice`, the scheme of the menu that the
/// row's scheme replaces. Reading accepts any order of columns and rows and ignores unknown columns. It
/// throws InputError, naming the line for a bad number, and naming linear and scheme for a missing or
/// duplicate cell.
void write_csv(const ErrorTable& table, const std::filesystem::path& path);
/// Whether a file with this beginning was written by write_csv(): MXQ's own tables have fewer columns.
bool is_error_csv(std::string_view beginning);
ErrorTable read_csv(const std::filesystem::path& path);
ErrorTable parse_csv(std::string_view text, std::string_view source);

}  // namespace knapsaq
