#include "knapsaq/bank/matrix_scheme.h"

#include <fmt/core.h>

#include "knapsaq/bank/match_table.h"
#include "knapsaq/base/error.h"

namespace knapsaq {

std::vector<MatrixScheme> allocation_of(std::span<const Matrix> matrices, std::span<const Scheme> schemes) {
  if (matrices.size() != schemes.size())
    throw UsageError(
        fmt::format("{} schemes for {} matrices: give one for each", schemes.size(), matrices.size()));
  std::vector<MatrixScheme> allocation;
  for (std::size_t i = 0; i < matrices.size(); ++i) allocation.push_back({matrices[i], schemes[i]});
  return allocation;
}

std::vector<MatrixScheme> uniform_allocation(std::span<const Matrix> matrices, const Scheme& scheme) {
  std::vector<MatrixScheme> allocation;
  for (const Matrix& matrix : matrices) allocation.push_back({matrix, scheme_for(matrix, scheme)});
  return allocation;
}

}  // namespace knapsaq
