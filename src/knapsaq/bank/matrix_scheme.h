#pragma once

#include <span>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// How one matrix is stored. An allocation is a list of them in the order of matrices(config); what it does
/// not name stays dense.
struct MatrixScheme {
  Matrix matrix;
  Scheme scheme;
};

/// schemes[i] for matrices[i]. Throws UsageError unless there is one for each.
std::vector<MatrixScheme> allocation_of(std::span<const Matrix> matrices, std::span<const Scheme> schemes);
/// `scheme` for each of `matrices`: as scheme_for() makes it fit.
std::vector<MatrixScheme> uniform_allocation(std::span<const Matrix> matrices, const Scheme& scheme);

}  // namespace knapsaq
