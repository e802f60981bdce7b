#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

/// The scheme in which a matrix is stored for `scheme`: that one, or its fitting() if it cannot hold the
/// matrix. Methods that need second moments of inputs have none of an embedding that is only looked up: its
/// columns count alike, so scales and zero points are those of least squared error (hqq-diag, or rtn-diag
/// where that cannot do the scheme).
Scheme scheme_for(const Matrix& matrix, const Scheme& scheme);
/// The same for all of a menu, as it says about groups. Throws UsageError where no group fills the rows.
std::vector<Scheme> schemes_for(const Matrix& matrix, const Menu& menu);

/// The sizes alone, with no errors: enough to know what budgets are possible, at no cost.
ErrorTable size_table(std::span<const Matrix> linears, const Menu& menu);

/// The rows of a table whose names are not among `kept`.
ErrorTable without(ErrorTable table, std::span<const std::string> kept);
/// The rows of the linears of the blocks.
ErrorTable without_ends(ErrorTable table);

/// The rows of a table from a file, in the order of `linears`, under their names and with the exact bytes
/// that Knapsaq writes instead of the table's rounded sizes. Embedding and head are left out where the table
/// does not have them. Throws InputError naming `source` and the linear that is missing, or the matrix whose
/// number of weights is not the model's.
ErrorTable match_table(const ErrorTable& table, std::span<const Matrix> linears, std::string_view source);

}  // namespace knapsaq
