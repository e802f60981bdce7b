#pragma once

#include <cstdint>
#include <optional>

namespace knapsaq {

struct Budget;
struct SearchSpace;

/// How large a model may be: one of the three.
struct BudgetOptions {
  std::optional<std::uint64_t> bytes;  ///< of all files
  double bits_per_weight = 0;          ///< of all files, per weight of the whole model (--bpw)
  double bits =
      0;  ///< average per weight of the linears in the blocks; embedding and head as stored (--bits)
  bool given() const { return bytes || bits > 0 || bits_per_weight > 0; }
};

/// Bytes of the files, or of the linears where bits are given. `parameters`: weights of the whole model.
/// Throws UsageError unless one of them is given, InfeasibleError, naming the smallest size, if nothing fits.
Budget resolve(const BudgetOptions& options, const SearchSpace& space, std::int64_t parameters);

}  // namespace knapsaq
