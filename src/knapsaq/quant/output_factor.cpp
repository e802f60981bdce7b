#include "knapsaq/quant/output_factor.h"

#include <optional>
#include <utility>

#include "knapsaq/quant/moment_factor.h"

namespace knapsaq {

namespace {

// YAQA leaves this open. Half of the mean was the best of 0.1 to 2 on the embedded models.
constexpr double kDamping = 0.5;

}  // namespace

std::unique_ptr<const OutputFactor> factor_outputs(const OutputStatistics* outputs) {
  if (outputs == nullptr || outputs->second_moment.empty()) return nullptr;
  const std::int64_t n = outputs->width;
  const double mean = mean_of_moments(outputs->second_moment, n, outputs->name, "outputs' gradients");
  std::optional<MomentFactor> moments = factor_moments(outputs->second_moment, n, mean, kDamping);
  if (!moments || moments->damping != kDamping) return nullptr;
  auto factor = std::make_unique<OutputFactor>();
  factor->width = n;
  factor->order = std::move(moments->order);
  factor->feedback = std::move(moments->feedback);
  return factor;
}

}  // namespace knapsaq
