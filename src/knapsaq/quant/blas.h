#pragma once

#include <cstdint>

// The dense products and factorisations of OpenBLAS that the quantizers use, row-major. Every call runs on
// the calling thread: Knapsaq's own loops spread the work, so that a result does not depend on how many
// threads there are. Which kernels OpenBLAS takes depends on the processor, and with them the last bits.

namespace knapsaq::blas {

/// c[m, n] += alpha * a[m, k] b[k, n].
void add_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                 std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                 std::int64_t c_stride);
/// c[m, n] += alpha * a[k, m]^T b[k, n].
void add_transposed_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                            std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                            std::int64_t c_stride);

/// a[n, n] = L L^T in the lower half; the upper one is neither read nor written. False if `a` is not positive
/// definite to the precision of the type.
bool cholesky(std::int64_t n, float* a, std::int64_t stride);
bool cholesky(std::int64_t n, double* a, std::int64_t stride);
/// b[m, n] = b (L^T)^-1 with the lower triangle L[n, n].
void solve_triangular(std::int64_t m, std::int64_t n, const float* l, std::int64_t l_stride, float* b,
                      std::int64_t b_stride);
void solve_triangular(std::int64_t m, std::int64_t n, const double* l, std::int64_t l_stride, double* b,
                      std::int64_t b_stride);
/// c[m, n] -= a[m, k] b[n, k]^T.
void subtract_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride,
                      const float* b, std::int64_t b_stride, float* c, std::int64_t c_stride);
void subtract_product(std::int64_t m, std::int64_t n, std::int64_t k, const double* a, std::int64_t a_stride,
                      const double* b, std::int64_t b_stride, double* c, std::int64_t c_stride);

/// c[n, n] -= a[n, k] a[n, k]^T, in the lower half only.
void subtract_square(std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride, float* c,
                     std::int64_t c_stride);
void subtract_square(std::int64_t n, std::int64_t k, const double* a, std::int64_t a_stride, double* c,
                     std::int64_t c_stride);

}  // namespace knapsaq::blas
