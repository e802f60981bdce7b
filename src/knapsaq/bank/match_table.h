#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// The scheme in which a matrix is stored for `scheme`: that one, or its fitting() if it cannot hold the
/// matrix. An embedding that is only looked up has no second moments of inputs for the methods that need
/// them. Its columns have equal weight, so scales and zero points are those of least squared error (hqq-diag,
/// or rtn-diag if hqq-diag does not support the scheme).
Scheme scheme_for(const Matrix& matrix, const Scheme& scheme);
/// The same for a whole menu, with its rule about groups. Throws UsageError if no group fills the rows.
std::vector<Scheme> schemes_for(const Matrix& matrix, const Menu& menu);

/// A line for people about the matrices that cannot hold some of these GGML types, and what they get: how
/// many there are, their widths, and the types' replacements (fitting()). Empty if there are none. Throws as
/// fitting().
std::string fallback_note(std::span<const Matrix> matrices, std::span<const Scheme> schemes);

/// Sizes only, without errors: enough to know the possible budgets, at no cost.
ErrorTable size_table(std::span<const Matrix> linears, const Menu& menu);

/// The rows of a table whose names are not among `kept`.
ErrorTable without(ErrorTable table, std::span<const std::string> kept);
/// The rows of the linears of the blocks.
ErrorTable without_ends(ErrorTable table);

/// The rows of a table from a file, in the order of `linears`, under their names and with the exact bytes
/// that Knapsaq writes instead of the table's rounded sizes. Embedding and head are omitted if the table does
/// not have them. Throws InputError, naming `source` and the missing linear, or the matrix whose number of
/// weights is not the model's.
ErrorTable match_table(const ErrorTable& table, std::span<const Matrix> linears, std::string_view source);

}  // namespace knapsaq
