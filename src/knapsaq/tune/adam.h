#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// Adam (Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1) with the paper's constants. The result does not
/// depend on the number of threads.
class Adam {
 public:
  explicit Adam(std::size_t parameters) : first(parameters), second(parameters) {}

  /// parameters -= rate * m / (sqrt(v) + epsilon), moments corrected for their start at 0.
  void step(std::span<const float> gradient, float rate, std::span<float> parameters);

  // The state, for who keeps it.
  std::vector<float> first;   ///< moment
  std::vector<float> second;  ///< moment
  std::int64_t steps = 0;     ///< made so far
};

/// `rate` at step `step` of `steps`, from 0 on: a half cosine from `rate` to 0 (Loshchilov and Hutter 2017,
/// arXiv:1608.03983).
float cosine_rate(float rate, std::int64_t step, std::int64_t steps);

}  // namespace knapsaq
