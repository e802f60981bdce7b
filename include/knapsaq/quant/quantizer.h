#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/calib/output_statistics.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A dense matrix W[rows, cols] in row-major fp32, owned by the caller.
struct MatrixView {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::span<const float> values;
  std::span<const float> row(std::int64_t r) const { return values.subspan(r * cols, cols); }
};

class GroupwiseQuantizer;

/// Smallest and largest of some weights.
struct WeightRange {
  float low = 0;
  float high = 0;
};

/// Larger weights are refused. This is half the largest fp16 number, so that every scale and bias that a
/// method may compute can be stored in fp16. Trained models stay below 1e3.
inline constexpr float kLargestWeight = 32752.0f;

/// The statistics of a linear's inputs that a method needs.
enum class Needs : std::uint8_t {
  nothing,
  mean_squares,    ///< InputStatistics::mean_square
  second_moments,  ///< all of InputStatistics
};

/// The result of a method's preparation for a linear's inputs, computed once for every scheme and for every
/// linear with the same input; for GPTQ, the factor of the Hessian. Its content is private to the method.
class PreparedInputs {
 public:
  virtual ~PreparedInputs() = default;
};

/// The same for a linear's outputs, computed once for every scheme: for GPTQ, the factor of the gradients'
/// second moments.
class PreparedOutputs {
 public:
  virtual ~PreparedOutputs() = default;
};

/// A method: matrix + statistics + scheme -> codes and metadata. Implementations are stateless and safe to
/// call from any thread; the result depends on the arguments only. One file per method, one line in
/// registry.cpp.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual std::string_view name() const = 0;
  /// Throws UsageError, saying what is possible, for a scheme that the method does not support.
  virtual void check(const Scheme& scheme) const = 0;
  /// The statistics that quantize() needs. A method that uses statistics but works without them (the GGML
  /// types) returns `nothing`.
  virtual Needs needs() const { return Needs::nothing; }
  /// Quantizes all of `weights`, in parallel. The metadata is rounded to its stored form before the codes are
  /// chosen, so the codes are the best for what is written. `inputs` are the statistics of the linear's
  /// inputs, null if there are none. Throws UsageError for a scheme that the method does not support or for
  /// missing statistics, and InputError for a weight beyond kLargestWeight and for statistics that are not
  /// finite. The weights must be finite (callers check: see check_finite).
  virtual StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                                const InputStatistics* inputs = nullptr) const = 0;
  /// The preparation that quantize() would otherwise repeat for `inputs`, in parallel; null if there is none,
  /// so callers need not know which methods prepare. Immutable, safe to use from any thread, and independent
  /// of `inputs` once made. Same errors as quantize(). GPTQ's takes 4 width^2 bytes.
  virtual std::unique_ptr<const PreparedInputs> prepare(const InputStatistics* /*inputs*/) const {
    return nullptr;
  }
  /// Methods that prepare alike: what prepare() and prepare_outputs() of one give, unless null, serves all
  /// that have the same name here.
  virtual std::string_view preparation() const { return name(); }
  /// quantize() with the result of the same method's prepare(inputs), or null; the same result.
  virtual StoredMatrix quantize_prepared(const MatrixView& weights, const Scheme& scheme,
                                         const InputStatistics* inputs,
                                         const PreparedInputs* /*prepared*/) const {
    return quantize(weights, scheme, inputs);
  }
  /// Whether the codes depend on statistics of the outputs, if there are any.
  virtual bool uses_outputs() const { return false; }
  /// The preparation for a linear's outputs, in parallel, for quantize_for_outputs(); null if there is none:
  /// the method does not use outputs, or `outputs` has not what it needs. Immutable like PreparedInputs.
  /// Throws InputError, naming the matrix, for statistics that are not finite. GPTQ's takes 4 width^2 bytes.
  virtual std::unique_ptr<const PreparedOutputs> prepare_outputs(const OutputStatistics* /*outputs*/) const {
    return nullptr;
  }
  /// quantize_prepared() with codes that weigh the linear's outputs by `outputs`, the result of the same
  /// method's prepare_outputs(); null: all alike.
  virtual StoredMatrix quantize_for_outputs(const MatrixView& weights, const Scheme& scheme,
                                            const InputStatistics* inputs, const PreparedInputs* prepared,
                                            const PreparedOutputs* /*outputs*/) const {
    return quantize_prepared(weights, scheme, inputs, prepared);
  }
  /// Non-null for methods that treat each group separately: they can compute their error without codes.
  virtual const GroupwiseQuantizer* groupwise() const { return nullptr; }
};

/// Throws UsageError listing the known methods.
const Quantizer& quantizer(std::string_view method);
/// Adds a method of the program's own, which schemes then name as "METHOD:b4g64": before it is used, from any
/// thread. Throws UsageError if there is one of that name.
void register_quantizer(std::unique_ptr<const Quantizer> method);
/// quantizer(scheme.method).quantize(weights, scheme, inputs), with errors that name the matrix: `linear` is
/// a module path. With `outputs`, quantize_for_outputs().
StoredMatrix quantize(std::string_view linear, const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs = nullptr, const OutputStatistics* outputs = nullptr);
/// The same without names.
StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs = nullptr);

/// A weight beyond kLargestWeight. what() says which weight and what to do, but not in which matrix.
class LargeWeightError : public InputError {
 public:
  explicit LargeWeightError(float weight);
};

/// The smallest number of rows whose groups fill whole second-level groups: a matrix can be divided at
/// multiples of it without changing the result of a scheme. At most scheme.meta_group; 1 for fp16 metadata.
std::int64_t rows_per_unit(const Scheme& scheme, std::int64_t cols);

/// Throws InputError, naming `tensor` and the first position, if a weight is NaN or infinite.
void check_finite(const MatrixView& weights, std::string_view tensor);
WeightRange range_of(const MatrixView& weights);

/// || W - dequantized ||_F, summed in double in a fixed order.
double frobenius_error(const MatrixView& weights, const StoredMatrix& stored);

}  // namespace knapsaq
