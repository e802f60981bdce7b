#include "knapsaq/quant/blas.h"

#include <cblas.h>

// OpenBLAS contains LAPACK's routines, but its package has no header for them.
extern "C" {
void spotrf_(const char* uplo, const blasint* n, float* a, const blasint* lda, blasint* info);
void dpotrf_(const char* uplo, const blasint* n, double* a, const blasint* lda, blasint* info);
}

namespace knapsaq::blas {

namespace {

blasint narrow(std::int64_t size) { return static_cast<blasint>(size); }

/// Before the first call: otherwise OpenBLAS would start threads of its own for each of Knapsaq's threads.
void ready() {
  static const bool once = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

void add_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                 std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                 std::int64_t c_stride) {
  ready();
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, narrow(m), narrow(n), narrow(k), alpha, a,
              narrow(a_stride), b, narrow(b_stride), 1.0f, c, narrow(c_stride));
}

void add_transposed_product(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                            std::int64_t a_stride, const float* b, std::int64_t b_stride, float* c,
                            std::int64_t c_stride) {
  ready();
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, narrow(m), narrow(n), narrow(k), alpha, a,
              narrow(a_stride), b, narrow(b_stride), 1.0f, c, narrow(c_stride));
}

// LAPACK is column-major: the lower half here is its upper half.

bool cholesky(std::int64_t n, float* a, std::int64_t stride) {
  ready();
  const blasint size = narrow(n);
  const blasint lda = narrow(stride);
  blasint info = 0;
  spotrf_("U", &size, a, &lda, &info);
  return info == 0;
}

bool cholesky(std::int64_t n, double* a, std::int64_t stride) {
  ready();
  const blasint size = narrow(n);
  const blasint lda = narrow(stride);
  blasint info = 0;
  dpotrf_("U", &size, a, &lda, &info);
  return info == 0;
}

void solve_triangular(std::int64_t m, std::int64_t n, const float* l, std::int64_t l_stride, float* b,
                      std::int64_t b_stride) {
  ready();
  cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, narrow(m), narrow(n), 1.0f, l,
              narrow(l_stride), b, narrow(b_stride));
}

void solve_triangular(std::int64_t m, std::int64_t n, const double* l, std::int64_t l_stride, double* b,
                      std::int64_t b_stride) {
  ready();
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, narrow(m), narrow(n), 1.0, l,
              narrow(l_stride), b, narrow(b_stride));
}

void solve_untransposed(std::int64_t m, std::int64_t n, const double* l, std::int64_t l_stride, double* b,
                        std::int64_t b_stride) {
  ready();
  cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, narrow(m), narrow(n), 1.0, l,
              narrow(l_stride), b, narrow(b_stride));
}

void subtract_product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride,
                      const float* b, std::int64_t b_stride, float* c, std::int64_t c_stride) {
  ready();
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow(m), narrow(n), narrow(k), -1.0f, a,
              narrow(a_stride), b, narrow(b_stride), 1.0f, c, narrow(c_stride));
}

void subtract_product(std::int64_t m, std::int64_t n, std::int64_t k, const double* a, std::int64_t a_stride,
                      const double* b, std::int64_t b_stride, double* c, std::int64_t c_stride) {
  ready();
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow(m), narrow(n), narrow(k), -1.0, a,
              narrow(a_stride), b, narrow(b_stride), 1.0, c, narrow(c_stride));
}

void subtract_square(std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride, float* c,
                     std::int64_t c_stride) {
  ready();
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, narrow(n), narrow(k), -1.0f, a, narrow(a_stride), 1.0f,
              c, narrow(c_stride));
}

void subtract_square(std::int64_t n, std::int64_t k, const double* a, std::int64_t a_stride, double* c,
                     std::int64_t c_stride) {
  ready();
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, narrow(n), narrow(k), -1.0, a, narrow(a_stride), 1.0,
              c, narrow(c_stride));
}

}  // namespace knapsaq::blas
