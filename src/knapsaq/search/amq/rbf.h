#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "knapsaq/search/amq/growing_cholesky.h"
#include "knapsaq/search/amq/predictor.h"

namespace knapsaq {

/// Interpolation by cubic radial basis functions with a linear tail, s(x) = sum_i c_i |x - x_i|^3 + p(x),
/// where (|x_i - x_j|^3 + damping I) c + p(x_i) = y and c is orthogonal to all linear functions. pySOT's
/// RBFInterpolant and SciPy's RBFInterpolator(kernel="cubic", degree=1, smoothing=damping) solve the same
/// system.
///
/// The system is indefinite. Written in terms of d + 1 anchors, which are centres that determine a linear
/// function, it becomes positive definite (the kernel minus the part explained by interpolation at the
/// anchors: Wendland, "Scattered Data Approximation", 2005, section 10.1), so further centres only add rows
/// to a factor.
class CubicRbf : public Predictor {
 public:
  /// `damping`: pySOT's, on variables scaled as here.
  explicit CubicRbf(std::size_t variables, double damping = 1e-6);

  /// The first call should add more points than there are variables. As long as the centres lie in a plane,
  /// the tail is linear in as many variables as they determine, and every call starts anew. Throws UsageError
  /// if centres repeat and the damping does not help.
  void add(std::span<const double> points, std::span<const double> values) override;
  std::vector<double> predict(std::span<const double> points) const override;

  std::size_t size() const { return values_.size(); }

 private:
  /// Chooses anchors and tail from all centres, and sorts the centres: anchors first, then the others.
  void choose_anchors();
  /// Adds the centres from `first` on to the factor.
  void extend(std::size_t first);
  void find_coefficients();
  /// L(x)[j]: the linear function that is 1 at anchor j and 0 at the others.
  void lagrange(std::span<const double> point, std::span<double> result) const;

  std::size_t variables_;
  double damping_;
  std::vector<double> centres_;            ///< [size, variables], the anchors first
  std::vector<double> values_;             ///< [size]
  std::vector<std::size_t> tail_;          ///< the terms of p: 0 for the constant, 1 + v for variable v
  std::vector<double> inverse_;            ///< [tail, anchors]: of the tail's functions at the anchors
  std::vector<double> anchor_kernel_;      ///< [anchors, anchors], damped
  std::vector<double> lagrange_;           ///< [others, anchors]: L(x)
  std::vector<double> distance_;           ///< [others, anchors]: g(x) = |x - anchor|^3
  std::vector<double> rest_;               ///< [others, anchors]: g(x) - anchor_kernel L(x)
  GrowingCholesky factor_;                 ///< of the others' kernel
  std::vector<double> coefficients_;       ///< [size]
  std::vector<double> tail_coefficients_;  ///< [tail]
};

}  // namespace knapsaq
