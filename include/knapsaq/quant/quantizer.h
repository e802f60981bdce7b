#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "knapsaq/base/error.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// A dense matrix W[rows, cols] in row-major fp32, owned by somebody else.
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

/// Weights beyond this are refused: half the largest fp16 number, so that every scale and bias that a method
/// may come to has an fp16 number. Trained models stay below 1e3.
inline constexpr float kLargestWeight = 32752.0f;

/// What a method has to know of a linear's inputs.
enum class Needs : std::uint8_t {
  nothing,
  mean_squares,    ///< InputStatistics::mean_square
  second_moments,  ///< all of InputStatistics
};

/// What a method works out of a linear's inputs once and uses for every scheme and for every linear that sees
/// the same input; GPTQ's is the factor of the Hessian. Each method knows its own.
class PreparedInputs {
 public:
  virtual ~PreparedInputs() = default;
};

/// A method: matrix + statistics + scheme -> codes and metadata. Implementations are stateless and safe to
/// call from any thread; the result depends on nothing but the arguments. One file per method, one line in
/// registry.cpp.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual std::string_view name() const = 0;
  /// Throws UsageError, saying what is possible, for a scheme that the method cannot do.
  virtual void check(const Scheme& scheme) const = 0;
  /// What quantize() cannot do without. A method that can make use of statistics but works without them
  /// (the GGML types) says `nothing`.
  virtual Needs needs() const { return Needs::nothing; }
  /// Quantizes all of `weights`, in parallel. The metadata is rounded as the scheme stores it before the
  /// codes are chosen, so the codes are the best for what is written. `inputs` are the statistics of the
  /// linear's inputs, null if there are none. Throws UsageError for a scheme that the method cannot do or for
  /// statistics that it needs and are missing, and InputError for a weight beyond kLargestWeight and for
  /// statistics that are not finite; the weights are finite (callers check: see check_finite).
  virtual StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                                const InputStatistics* inputs = nullptr) const = 0;
  /// What quantize() would work out of `inputs` every time anew, in parallel; null where that is nothing, so
  /// callers need not know which methods prepare. Immutable, safe to use from any thread, and independent of
  /// `inputs` once made. Same errors as quantize(). GPTQ's takes 4 width^2 bytes.
  virtual std::unique_ptr<const PreparedInputs> prepare(const InputStatistics* /*inputs*/) const {
    return nullptr;
  }
  /// quantize() with what prepare(inputs) of the same method gave, or null; the same result.
  virtual StoredMatrix quantize_prepared(const MatrixView& weights, const Scheme& scheme,
                                         const InputStatistics* inputs,
                                         const PreparedInputs* /*prepared*/) const {
    return quantize(weights, scheme, inputs);
  }
  /// Methods that treat every group on its own can tell their error without making codes; null for others.
  virtual const GroupwiseQuantizer* groupwise() const { return nullptr; }
};

/// Throws UsageError listing the known methods.
const Quantizer& quantizer(std::string_view method);
/// Adds a method of the program's own, which schemes then name as "METHOD:b4g64": before it is used, from any thread.
/// Throws UsageError if there is one of that name.
void register_quantizer(std::unique_ptr<const Quantizer> method);
/// quantizer(scheme.method).quantize(weights, scheme, inputs), for a matrix that errors then name: `linear`
/// is a module path.
StoredMatrix quantize(std::string_view linear, const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs = nullptr);
/// The same where nothing has a name.
StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme,
                      const InputStatistics* inputs = nullptr);

/// A weight beyond kLargestWeight. what() says which and what to do, but not of which matrix.
class LargeWeightError : public InputError {
 public:
  explicit LargeWeightError(float weight);
};

/// The fewest rows whose groups fill whole second-level groups: a matrix can be cut at multiples of it
/// without changing what a scheme makes of it. At most scheme.meta_group; 1 for fp16 metadata.
std::int64_t rows_per_unit(const Scheme& scheme, std::int64_t cols);

/// Throws InputError naming `tensor` and the first position if a weight is NaN or infinite.
void check_finite(const MatrixView& weights, std::string_view tensor);
WeightRange range_of(const MatrixView& weights);

/// || W - dequantized ||_F, summed in double in a fixed order.
double frobenius_error(const MatrixView& weights, const StoredMatrix& stored);

}  // namespace knapsaq
