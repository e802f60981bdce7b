#pragma once

#include <cstdint>

namespace knapsaq {

/// a[n, n] = L L^T in the lower half, row-major, in parallel; the upper half is neither read nor written. The
/// result does not depend on the number of threads. False if a pivot may be rounding error alone
/// (blas::is_pivot()): dividing by it would give noise. Throws Cancelled.
bool tiled_cholesky(std::int64_t n, float* a);
bool tiled_cholesky(std::int64_t n, double* a);

}  // namespace knapsaq
