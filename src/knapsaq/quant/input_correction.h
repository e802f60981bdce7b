#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "knapsaq/compute/input_sums.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// Least squares over the inputs y of a matrix W [out, in]: the change D of its weights whose outputs D y are
/// nearest to wanted ones t, in the sum of |t - D y|^2 over tokens, is
///   D = T (H + damping)^-1,   T = sum t y^T,   H = sum y y^T.
/// If y is the input in a model that is quantized so far and x that in the full-precision model, t = W (x -
/// y) gives GPTAQ's and Qronos's correction (Li et al. 2025; Zhang et al. 2025), with T = W sum (x - y) y^T.
class InputCorrection {
 public:
  /// H. In parallel; takes 8 in^2 bytes.
  explicit InputCorrection(const InputSums& inputs);

  /// T [rows, in], row-major, becomes D. In parallel; the result does not depend on the number of threads. 0
  /// where the inputs are all zero.
  void solve(std::int64_t rows, std::span<float> wanted) const;

 private:
  std::int64_t width_;
  std::unique_ptr<double[]> factor_;  ///< [in, in]: L of H + damping = L L^T; null: nothing to solve with
};

/// W C [rows, in] for C [in, in], row-major, in parallel.
std::vector<float> multiply(const MatrixView& weights, std::span<const float> matrix);

}  // namespace knapsaq
