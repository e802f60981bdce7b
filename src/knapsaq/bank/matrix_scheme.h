#pragma once

#include <span>
#include <vector>

#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// How one matrix is stored. An allocation is a list of these in the order of matrices(config); matrices that
/// it does not name stay dense.
struct MatrixScheme {
  Matrix matrix;
  Scheme scheme;
};

/// schemes[i] for matrices[i]. Throws UsageError unless there is one for each.
std::vector<MatrixScheme> allocation_of(std::span<const Matrix> matrices, std::span<const Scheme> schemes);
/// `scheme` for each of `matrices`, in the form that scheme_for() returns.
std::vector<MatrixScheme> uniform_allocation(std::span<const Matrix> matrices, const Scheme& scheme);

}  // namespace knapsaq
