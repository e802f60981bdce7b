#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace knapsaq {

/// Second moments M[n, n] in an order, damped, as a product of triangles: with R upper triangular,
/// R R^T = M / mean + damping I.
struct MomentFactor {
  /// [n] order[i] is the i-th column: runs of `together` columns by the descending sum of their diagonal, in
  /// each of them by index; of equal ones, the lower index comes first. What is no whole run is last.
  std::vector<std::int32_t> order;
  /// [n, n] in that order, row-major: [j, k] for j < k is R_jk / R_kk. Elements on and below the diagonal are
  /// unused.
  std::unique_ptr<float[]> feedback;
  std::vector<float> diagonal;  ///< [n] in that order: R_kk
  double damping = 0;           ///< as a multiple of the mean
};

/// The mean of the diagonal, 1 if all of it is zero. Throws InputError, naming `name`, for values that cannot
/// be second moments; `whose` says of what: "inputs".
double mean_of_moments(std::span<const float> moments, std::int64_t n, std::string_view name,
                       std::string_view whose);

/// In parallel; the result does not depend on the number of threads. Moments that are not positive definite
/// in fp32 with `damping` are factored in fp64, then with ten times the damping, and so on up to a hundred
/// times the mean; nothing if that does not suffice either.
std::optional<MomentFactor> factor_moments(std::span<const float> moments, std::int64_t n, double mean,
                                           double damping, std::int64_t together = 1);

}  // namespace knapsaq
