#include "knapsaq/calib/input_statistics.h"

#include <cstddef>

namespace knapsaq {

InputStatistics columns_alike(std::string_view name, std::int64_t width, bool moments) {
  const auto n = static_cast<std::size_t>(width);
  InputStatistics statistics{.name = std::string(name),
                             .width = width,
                             .tokens = 0,
                             .mean_square = std::vector<float>(n, 1.0f),
                             .mean_abs = {},
                             .max_abs = {},
                             .second_moment = {}};
  if (!moments) return statistics;
  statistics.second_moment.resize(n * n);
  for (std::size_t i = 0; i < n; ++i) statistics.second_moment[i * n + i] = 1;
  return statistics;
}

RowShares shares_of(std::span<const std::int64_t> counts) {
  double all = 0;
  for (const std::int64_t count : counts) all += static_cast<double>(count) + 0.5;
  RowShares shares;
  shares.reserve(counts.size());
  for (const std::int64_t count : counts)
    shares.push_back(static_cast<float>((static_cast<double>(count) + 0.5) / all));
  return shares;
}

}  // namespace knapsaq
