#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

// The dense products and factorisations of OpenBLAS that the quantizers use, row-major. Every call runs on
// the calling thread: Knapsaq's own loops distribute the work, so a result does not depend on the number of
// threads. OpenBLAS chooses its kernels by processor, and the last bits depend on them.

namespace knapsaq::blas {

/// c[m, n] += alpha * a[m, k] b[k, n].
void add_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                 std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                 std::int64_t c_stride);
/// c[m, n] += alpha * a[k, m]^T b[k, n].
void add_transposed_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                            std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                            std::int64_t c_stride);

/// a[n, n] = L L^T in the lower half; the upper half is neither read nor written. False if a pivot is not a
/// positive number. For a singular matrix, rounding decides this, so ask is_pivot() too.
bool cholesky(std::int64_t n, float* a, std::int64_t stride);
bool cholesky(std::int64_t n, double* a, std::int64_t stride);
/// Whether L's diagonal element `l` is too large to be the rounding error of a pivot of zero. `diagonal` is
/// the matrix's own element there, from which up to `n` squares were subtracted to give l^2, and `noise` is
/// the absolute error of that element. The squares add up to at most `diagonal`, and the rounding error of a
/// sum of n terms grows like sqrt(n) (Higham and Mary, "A New Approach to Probabilistic Rounding Error
/// Analysis", SIAM J. Sci. Comput. 41, 2019): up to 4 of its deviations count as zero. NaN and infinity are
/// not pivots.
template <class Real>
bool is_pivot(Real l, Real diagonal, std::int64_t n, Real noise = 0) {
  const Real rounding =
      4 * std::sqrt(static_cast<Real>(n)) * std::numeric_limits<Real>::epsilon() / 2 * diagonal;
  return l > 0 && l * l > rounding + noise && std::isfinite(l);
}
/// b[m, n] = b (L^T)^-1 with the lower triangle L[n, n].
void solve_triangular(std::int64_t m, std::int64_t n, const float* l, std::int64_t l_stride, float* b,
                      std::int64_t b_stride);
void solve_triangular(std::int64_t m, std::int64_t n, const double* l, std::int64_t l_stride, double* b,
                      std::int64_t b_stride);
/// b[m, n] = b L^-1.
void solve_untransposed(std::int64_t m, std::int64_t n, const double* l, std::int64_t l_stride, double* b,
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
