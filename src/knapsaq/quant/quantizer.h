#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A dense matrix W[rows, cols] in row-major fp32, owned by somebody else.
struct MatrixView {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::span<const float> values;
  std::span<const float> row(std::int64_t r) const { return values.subspan(r * cols, cols); }
};

/// Smallest and largest of some weights.
struct WeightRange {
  float low = 0;
  float high = 0;
};

/// Weights beyond this are refused: half the largest binary16, so that every scale and bias that a method may
/// come to has a binary16. Trained models stay below 1e3.
inline constexpr float kLargestWeight = 32752.0f;

/// A method: matrix + scheme -> codes and metadata. Implementations are stateless and safe to call from any
/// thread; the result depends on nothing but the arguments. One file per method, one line in registry.cpp.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual std::string_view name() const = 0;
  /// Throws UsageError, saying what is possible, for a scheme that the method cannot do.
  virtual void check(const Scheme& scheme) const = 0;
  /// Quantizes all of `weights`, in parallel. The metadata is rounded as the scheme stores it before the
  /// codes are chosen, so the codes are the best for what is written. Throws UsageError for a scheme that the
  /// method cannot do and InputError for a weight beyond kLargestWeight; the weights are finite (callers
  /// check: see check_finite).
  virtual PackedMatrix quantize(const MatrixView& weights, const Scheme& scheme) const = 0;
  /// || W - Q(W) ||_F^2 of some rows of a matrix without making its codes, on the calling thread. The rows
  /// start at a multiple of rows_per_unit() and are a multiple of it or end with the matrix; `whole` is the
  /// range of the whole matrix. Summed over all rows it is frobenius_error()^2 of quantize()'s result.
  virtual double squared_error(const MatrixView& rows, const Scheme& scheme,
                               const WeightRange& whole) const = 0;
};

/// Throws UsageError listing the known methods.
const Quantizer& quantizer(std::string_view method);
/// quantizer(scheme.method).quantize(weights, scheme).
PackedMatrix quantize(const MatrixView& weights, const Scheme& scheme);

/// The fewest rows whose groups fill whole second-level groups: a matrix can be cut at multiples of it
/// without changing what a scheme makes of it. At most scheme.meta_group; 1 for fp16 metadata.
std::int64_t rows_per_unit(const Scheme& scheme, std::int64_t cols);

/// Throws InputError naming `tensor` and the first position if a weight is NaN or infinite.
void check_finite(const MatrixView& weights, std::string_view tensor);
WeightRange range_of(const MatrixView& weights);

/// || W - dequantized ||_F, summed in double in a fixed order.
double frobenius_error(const MatrixView& weights, const PackedMatrix& packed);

}  // namespace knapsaq
