#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

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

/// A method: matrix + scheme -> codes and metadata. Implementations are stateless and safe to call from any
/// thread; the result depends on nothing but the arguments. One file per method, one line in registry.cpp.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual std::string_view name() const = 0;
  /// Quantizes all of `weights`, in parallel. The metadata is rounded as the scheme stores it before the
  /// codes are chosen, so the codes are the best for what is written. Throws UsageError for a scheme that the
  /// method cannot do; the weights are finite (callers check: see check_finite).
  virtual PackedMatrix quantize(const MatrixView& weights, const Scheme& scheme) const = 0;
};

/// Throws UsageError listing the known methods.
const Quantizer& quantizer(std::string_view method);
/// quantizer(scheme.method).quantize(weights, scheme).
PackedMatrix quantize(const MatrixView& weights, const Scheme& scheme);

/// Throws InputError naming `tensor` and the first position if a weight is NaN or infinite.
void check_finite(const MatrixView& weights, std::string_view tensor);

/// || W - dequantized ||_F, summed in double in a fixed order.
double frobenius_error(const MatrixView& weights, const PackedMatrix& packed);

}  // namespace knapsaq
