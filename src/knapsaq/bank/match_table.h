#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "knapsaq/bank/error_table.h"

namespace knapsaq {

/// The schemes in which a linear is stored for each scheme of a menu: that one, or what takes its place if it
/// cannot hold the linear.
std::vector<Scheme> schemes_for(const Linear& linear, const Menu& menu);

/// The sizes alone, with no errors: enough to know what budgets are possible, at no cost.
ErrorTable size_table(std::span<const Linear> linears, const Menu& menu);

/// The rows of a table from a file, in the order of the model's linears, under their names and with the exact
/// bytes that Knapsaq writes in the place of the table's rounded sizes. Throws InputError naming `source` and
/// the linear that is missing, or whose number of weights is not the model's.
ErrorTable match_table(const ErrorTable& table, std::span<const Linear> linears, std::string_view source);

}  // namespace knapsaq
