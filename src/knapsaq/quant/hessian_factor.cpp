#include "knapsaq/quant/hessian_factor.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/quant/moment_factor.h"

namespace knapsaq {

namespace {

// As in the paper and in every implementation since.
constexpr double kDamping = 0.01;

}  // namespace

std::unique_ptr<const HessianFactor> factor_hessian(const InputStatistics* inputs, std::int64_t together) {
  if (inputs == nullptr || inputs->second_moment.empty()) {
    throw UsageError(fmt::format("gptq needs second moments of the inputs{}; calibrate the model on text",
                                 inputs == nullptr ? "" : " of " + inputs->name));
  }
  const std::int64_t n = inputs->width;
  const double mean = mean_of_moments(inputs->second_moment, n, inputs->name, "inputs");
  std::optional<MomentFactor> moments = factor_moments(inputs->second_moment, n, mean, kDamping, together);
  if (!moments) {
    throw InputError(
        fmt::format("{}: its second moments are not those of any inputs (far from positive definite); "
                    "calibrate again",
                    inputs->name));
  }
  auto factor = std::make_unique<HessianFactor>();
  factor->width = n;
  factor->damping = moments->damping;
  factor->importance.resize(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t col = moments->order[i];
    const double moment = static_cast<double>(inputs->second_moment[col * n + col]) / mean + factor->damping;
    factor->importance[col] = moments->diagonal[i] * static_cast<float>(std::sqrt(moment));
  }
  factor->together = together;
  factor->diagonal = std::move(moments->diagonal);
  factor->order = std::move(moments->order);
  factor->feedback = std::move(moments->feedback);
  return factor;
}

}  // namespace knapsaq
