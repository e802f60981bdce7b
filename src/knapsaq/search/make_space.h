#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/search/pins.h"
#include "knapsaq/search/space.h"

namespace knapsaq {

/// The space of a bank's table, whose bytes must be exact (match_table()). `ties` as in tie_groups(); a
/// constraint on one linear holds for all that are tied to it. Menu choices that store all linears of a
/// variable alike become one level, that of the first of them. Throws UsageError, naming it, for a constraint
/// that matches no linear, for constraints that leave a variable without a level, and for schemes that the
/// menu does not have.
SearchSpace make_space(const ErrorTable& table, std::string_view ties, std::span<const Pin> pins, Cost cost,
                       std::shared_ptr<const FileSizes> files);

}  // namespace knapsaq
